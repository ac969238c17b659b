"""The plan of samples: a pure function, even over all frames, the same for any number of processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from talent_factory.core.errors import ConfigError
from talent_factory.lipsync.data.plan import PlanRules, SamplePlan

LENGTHS = [40, 12, 3, 25]


def energies() -> list[np.ndarray]:
    return [np.sin(np.arange(n) * 0.7) + 1 for n in LENGTHS]


def test_a_sample_depends_on_seed_and_number_alone() -> None:
    plan = SamplePlan(7, LENGTHS, energies=energies())
    numbers = np.array([0, 5, 4095, 4096, 10_000, 2**33 + 1])
    together = plan.draws(numbers)
    assert [plan.draw(int(g)) for g in numbers] == together
    assert SamplePlan(7, LENGTHS, energies=energies()).draws(numbers[::-1]) == together[::-1]
    assert SamplePlan(8, LENGTHS, energies=energies()).draws(numbers) != together
    assert [draw.sample for draw in together] == numbers.tolist()


def test_the_numbers_are_the_same_on_every_machine() -> None:
    found = [(d.clip, d.target, d.reference) for d in SamplePlan(1, [750, 30, 8]).draws(np.arange(4))]
    assert found == [(1, 12, 20), (0, 289, 623), (0, 22, 516), (0, 503, 400)]


def test_one_and_many_processes_see_the_same_step() -> None:
    plan = SamplePlan(3, LENGTHS)
    accumulate, world, size = 4, 2, 3
    step = accumulate * world * size
    alone = [draw for batch, _ in zip(plan.batches(0, step), range(2), strict=False) for draw in batch]
    shared = []
    for rank in range(world):
        batches = plan.batches(rank * size, size, stride=world * size)
        shared += [draw for batch, _ in zip(batches, range(2 * accumulate), strict=False) for draw in batch]
    assert sorted(shared, key=lambda draw: draw.sample) == alone


def test_an_epoch_visits_every_frame_evenly() -> None:
    total = sum(LENGTHS)
    plan = SamplePlan(0, LENGTHS, rules=PlanRules(power=1.0, epoch=3 * total))
    for epoch in (0, 1):
        first = epoch * plan.epoch
        clips, targets, *_ = plan.table(np.arange(first, first + plan.epoch))
        visits = Counter(zip(clips.tolist(), targets.tolist(), strict=True))
        assert len(visits) == total
        assert set(visits.values()) <= {2, 3, 4}
        assert sum(visits.values()) == 3 * total
    assert plan.repeats == pytest.approx({0: 3, 1: 3, 2: 3, 3: 3})


def test_short_clips_are_repeated_as_told() -> None:
    plan = SamplePlan(0, LENGTHS, rules=PlanRules(power=0.0, epoch=4000))
    clips, *_ = plan.table(np.arange(4000))
    assert Counter(clips.tolist()) == {0: 1000, 1: 1000, 2: 1000, 3: 1000}
    assert plan.repeats[2] == pytest.approx(1000 / 3)


def test_references_are_far_or_the_frame_itself() -> None:
    plan = SamplePlan(0, LENGTHS, rules=PlanRules(far=5, self_share=0.1))
    clips, targets, references, _, _ = plan.table(np.arange(20_000))
    itself = references == targets
    assert 0.08 < itself[clips != 2].mean() < 0.12
    far = np.abs(references - targets)[~itself & (clips != 2)]
    assert far.min() == 6
    # three frames hold none that is more than five away: then the farthest
    short = clips == 2
    assert set(np.abs(references - targets)[short].tolist()) <= {0, 1, 2}
    assert (references < np.array(LENGTHS)[clips]).all()
    assert (references >= 0).all()


def test_references_far_in_sound_differ_more() -> None:
    loud = energies()
    unlike = []
    for share in (0.0, 1.0):
        rules = PlanRules(self_share=0.0, mouth_share=share, silent_share=0.0)
        clips, targets, references, *_ = SamplePlan(0, LENGTHS, rules=rules, energies=loud).table(
            np.arange(4000)
        )
        pairs = zip(clips, targets, references, strict=True)
        unlike.append(np.mean([abs(loud[c][t] - loud[c][r]) for c, t, r in pairs]))
    assert unlike[1] > 1.4 * unlike[0]


def test_silent_samples_take_quiet_frames() -> None:
    loud = energies()
    plan = SamplePlan(0, LENGTHS, rules=PlanRules(silent_share=0.2, dropped_share=0.1), energies=loud)
    clips, targets, _, silent, dropped = plan.table(np.arange(10_000))
    assert 0.18 < silent.mean() < 0.22
    assert 0.08 < dropped.mean() < 0.12
    assert not (silent & dropped).any()
    for clip, target in zip(clips[silent], targets[silent], strict=True):
        assert loud[clip][target] <= np.quantile(loud[clip], 0.4)
    assert not SamplePlan(0, LENGTHS).table(np.arange(2000))[3].any(), "nobody knows what is quiet"


def test_windows_stay_inside_their_clip() -> None:
    rules = PlanRules(window=8, far=5, silent_share=0.3)
    plan = SamplePlan(0, LENGTHS, rules=rules, energies=energies())
    clips, targets, references, *_ = plan.table(np.arange(5000))
    assert 2 not in clips.tolist(), "a clip of three frames holds no window of eight"
    assert (targets + 8 <= np.array(LENGTHS)[clips]).all()
    outside = (references < targets) | (references >= targets + 8)
    assert (outside | (references == targets) | (clips == 1)).all()
    with pytest.raises(ConfigError, match="no clip has 50 frames"):
        SamplePlan(0, LENGTHS, rules=PlanRules(window=50))


def test_only_chosen_clips_are_drawn() -> None:
    clips, *_ = SamplePlan(0, LENGTHS, clips=[1, 3]).table(np.arange(500))
    assert set(clips.tolist()) == {1, 3}


def test_references_near_in_pose_are_nearer_and_keep_another_mouth() -> None:
    lengths = [100, 80]
    # the head sways slowly, the mouth quickly
    poses = [np.stack([np.sin(np.arange(n) * 0.1), np.cos(np.arange(n) * 0.1)], axis=1) for n in lengths]
    loud = [np.sin(np.arange(n) * 2.3) for n in lengths]
    numbers = np.arange(3000)

    def apart(share: float, energies: list[np.ndarray] | None) -> tuple[float, float, int]:
        rules = PlanRules(near_share=share, self_share=0.0, mouth_share=0.0, silent_share=0.0)
        plan = SamplePlan(4, lengths, rules=rules, energies=energies, poses=poses)
        clip, target, reference, *_ = plan.table(numbers)
        rows = list(zip(clip, target, reference, strict=True))
        pose = np.mean([np.abs(poses[c][t] - poses[c][r]).mean() for c, t, r in rows])
        mouth = np.mean([abs(loud[c][t] - loud[c][r]) for c, t, r in rows])
        return float(pose), float(mouth), int(np.abs(target - reference).min())

    anywhere, near, heard = apart(0.0, loud), apart(1.0, None), apart(1.0, loud)
    assert near[0] < 0.5 * anywhere[0]
    assert heard[0] < 0.75 * anywhere[0]
    assert heard[1] > 1.3 * near[1]
    assert min(anywhere[2], near[2], heard[2]) > 5


def test_poses_leave_every_other_draw_as_it_was() -> None:
    poses = [np.zeros((n, 3)) for n in LENGTHS]
    plain = SamplePlan(7, LENGTHS, energies=energies()).draws(np.arange(50))
    assert SamplePlan(7, LENGTHS, energies=energies(), poses=poses).draws(np.arange(50)) == plain
