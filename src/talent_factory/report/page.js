"use strict";
(function () {
  var root = document.documentElement;
  var theme = document.getElementById("theme");
  function remember(value) { try { value ? localStorage.setItem("talent-theme", value) : 0; return localStorage.getItem("talent-theme"); } catch (_) { return value; } }
  function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches; }
  function label() { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", "Switch to the " + theme.textContent.toLowerCase() + " theme"); }
  var kept = remember();
  if (kept === "dark" || kept === "light") { root.dataset.theme = kept; }
  theme.hidden = false;
  label();
  theme.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; remember(root.dataset.theme); label(); });

  document.querySelectorAll(".copy").forEach(function (button) {
    if (!navigator.clipboard) { return; }
    button.hidden = false;
    button.addEventListener("click", function () {
      navigator.clipboard.writeText(button.previousElementSibling.textContent).then(function () {
        button.textContent = "Copied";
        setTimeout(function () { button.textContent = "Copy"; }, 1600);
      });
    });
  });

  var viewer = document.getElementById("viewer");
  if (!viewer.showModal) { return; }
  document.querySelectorAll("main img").forEach(function (image) {
    image.classList.add("zoom");
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    function open() {
      viewer.querySelector("img").src = image.src;
      viewer.querySelector("img").alt = image.alt;
      viewer.querySelector("p").textContent = image.alt;
      viewer.showModal();
    }
    image.addEventListener("click", open);
    image.addEventListener("keydown", function (event) { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } });
  });
  viewer.addEventListener("click", function (event) { if (event.target === viewer) { viewer.close(); } });
}());
