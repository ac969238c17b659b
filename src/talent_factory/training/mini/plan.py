"""What a build of the embedded base costs, before it starts."""

from __future__ import annotations

from talent_factory.core.plan import Plan, PlanStep
from talent_factory.training.mini.recipe import MiniRecipe

# Seconds measured on two cores of a 2024 server CPU (AVX-512), with nothing else running.
_DRAWING, _AUTOENCODER_STEP, _DENOISER_STEP, _PROBE_STEP, _RENDER = 0.0031, 0.17, 0.36, 0.12, 0.25


def build_plan(recipe: MiniRecipe) -> Plan:
    """Steps, seconds (two CPU cores), memory and disk of a whole build."""
    parts = (recipe.drawings, recipe.denoiser.drawings, recipe.probe.drawings)
    disk = sum(parts) * recipe.size * recipe.size * 3 / 1e6
    return Plan(
        title="build the embedded base mini",
        steps=(
            _step("drawings", f"{sum(parts)} drawings", sum(parts) * _DRAWING, disk),
            _step(
                "autoencoder",
                f"{recipe.autoencoder.steps} steps",
                recipe.autoencoder.steps * _AUTOENCODER_STEP,
                60,
            ),
            _step("denoiser", f"{recipe.denoiser.steps} steps", recipe.denoiser.steps * _DENOISER_STEP, 240),
            _step("probe", f"{recipe.probe.steps} steps", recipe.probe.steps * _PROBE_STEP, 30),
            _step("measure", "200 held-out prompts", 200 * _RENDER, 24),
        ),
    )


def _step(name: str, detail: str, seconds: float, disk_mb: float) -> PlanStep:
    return PlanStep(name=name, detail=detail, seconds=round(seconds), memory_mb=2000, disk_mb=round(disk_mb))
