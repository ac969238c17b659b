"use strict";

const by = (id) => document.getElementById(id);
let images = [];
let at = 0;

async function send(route, body) {
  const answer = await fetch(route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || "the decision was not saved");
  }
}

function number(value) {
  return value === null ? "" : Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toFixed(3)));
}

function showChecks(checks) {
  by("checks").replaceChildren(...checks.map((check) => {
    const row = document.createElement("tr");
    row.className = check.verdict;
    const name = document.createElement("td");
    name.textContent = check.name.replaceAll("_", " ");
    const said = document.createElement("td");
    said.textContent = check.note || `ok ${number(check.value)}`;
    if (check.value !== null) said.title = `measured ${number(check.value)}, limit ${number(check.limit)}`;
    row.append(name, said);
    return row;
  }));
}

function show() {
  const image = images[at];
  by("large").src = `image/${image.sha256}`;
  by("large").alt = image.title;
  by("title").textContent = `${String(image.number).padStart(2, "0")}  ${image.title}`;
  by("detail").textContent = image.detail;
  by("keep").setAttribute("aria-pressed", String(image.choice === "keep"));
  by("reject").setAttribute("aria-pressed", String(image.choice === "reject"));
  showChecks(image.checks);
  [...by("strip").children].forEach((cell, index) => {
    cell.setAttribute("aria-current", String(index === at));
    cell.className = `${images[index].verdict} ${images[index].choice || ""}`;
    const shown = String(images[index].number).padStart(2, "0");
    cell.setAttribute("aria-label", `${shown} ${images[index].title} ${images[index].choice || "undecided"}`);
  });
  by("strip").children[at].scrollIntoView({ block: "nearest", inline: "nearest" });
  const kept = images.filter((one) => one.choice === "keep").length;
  const gone = images.filter((one) => one.choice === "reject").length;
  by("counts").textContent = `${images.length} images · ${kept} kept · ${gone} rejected`;
}

function move(step) {
  at = Math.min(images.length - 1, Math.max(0, at + step));
  show();
}

async function choose(choice, onward) {
  const image = images[at];
  try {
    await send("decide", { sha256: image.sha256, choice });
  } catch (error) {
    by("message").textContent = error.message;
    return;
  }
  by("message").textContent = "";
  // one decision holds for every image of the same bytes
  for (const one of images) if (one.sha256 === image.sha256) one.choice = choice === "clear" ? null : choice;
  if (onward && images[at] === image && at < images.length - 1) at += 1;
  show();
}

async function finish() {
  try {
    await send("done", {});
  } catch (error) {
    by("message").textContent = error.message;
    return;
  }
  document.body.replaceChildren(Object.assign(document.createElement("h1"), {
    textContent: "Saved. This page may be closed.", className: "ended",
  }));
}

const keys = {
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
  k: () => choose("keep", true),
  r: () => choose("reject", true),
  u: () => choose("clear", false),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !images.length || !by("strip")) return;
  const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

async function begin() {
  const state = await (await fetch("data.json")).json();
  images = state.images;
  document.title = `Review ${state.name}`;
  by("name").textContent = state.name;
  by("origin").hidden = !state.source;
  by("strip").append(...images.map((image, index) => {
    const cell = document.createElement("button");
    cell.type = "button";
    const picture = Object.assign(document.createElement("img"), { src: `thumb/${image.sha256}`, alt: "", loading: "lazy" });
    const label = document.createElement("span");
    label.textContent = String(image.number).padStart(2, "0");
    cell.append(picture, label);
    cell.addEventListener("click", () => { at = index; show(); });
    return cell;
  }));
  by("keep").addEventListener("click", () => choose("keep", true));
  by("reject").addEventListener("click", () => choose("reject", true));
  by("clear").addEventListener("click", () => choose("clear", false));
  by("done").addEventListener("click", finish);
  const first = images.findIndex((image) => image.choice === null);
  at = first < 0 ? 0 : first;
  show();
}

begin();
