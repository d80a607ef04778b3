"""Adversarial training: who is moved, how far, in which loss, and that it helps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from train.adversarial import adversarial, moved_images
from train.attacks.losses import cross_entropy
from train.baselines import ResNetClassifier, matched_resnet
from train.batches import Batch
from train.config import TrainConfig
from train.learner import Learner, build_learner
from train.meter import Meter
from train.objective import ib_loss
from train.parallel import Alone
from train.stepper import Stepper

FLOW = FlowConfig(
    input_shape=(1, 4, 4), n_classes=3, stages=(StageConfig(downsample="haar", blocks=2, width=8),)
)
CONFIG = TrainConfig(recipe="x", data="x", adversarial_eps=16.0, adversarial_steps=2)


def learner(config: TrainConfig = CONFIG) -> Learner:
    torch.manual_seed(0)
    made = build_learner(GenerativeClassifier(FLOW), config).train()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def batch(count: int = 9) -> Batch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand((count, 1, 4, 4), generator=generator)
    return Batch(pixels=pixels, labels=torch.arange(count) % 3, images=count)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_moved_images_are_near_and_worse(steps: int) -> None:
    made, some, eps = learner(), batch(), 16 / 255
    torch.manual_seed(0)
    found = adversarial(made.logits, some.pixels, some.labels, eps=eps, steps=steps)
    change = found - some.pixels
    assert change.abs().max() <= eps + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found.requires_grad
    before = cross_entropy(made.logits(some.pixels), some.labels)
    assert (cross_entropy(made.logits(found), some.labels) > before).float().mean() > 0.8
    assert all(parameter.grad is None for parameter in made.parameters())


def test_half_of_a_batch_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, int]] = []
    made = Stepper(learner(), CONFIG, Alone())
    forward = made._forward

    def spy(pixels: Tensor, labels: Tensor, moved: int) -> object:
        seen.append((pixels, moved))
        return forward(pixels, labels, moved)

    monkeypatch.setattr(made, "_forward", spy)
    some = batch()
    made.step(some, learning_rate=0.0)
    ((pixels, moved),) = seen
    assert moved == moved_images(9) == 4
    assert torch.equal(pixels[4:], some.pixels[4:])
    assert all(not torch.equal(pixels[i], some.pixels[i]) for i in range(4))
    assert moved_images(1) == 0


def test_what_is_moved_has_no_part_in_the_density() -> None:
    made, some = learner(), batch()
    output = made.classifier(some.pixels)
    whole, part = ib_loss(output, some.labels, 2.0), ib_loss(output, some.labels, 2.0, moved=4)
    alone = ib_loss(made.classifier(some.pixels[4:]), some.labels[4:], 2.0)
    torch.testing.assert_close(part.l_x, alone.l_x)
    torch.testing.assert_close(part.l_y, whole.l_y)
    assert not torch.isclose(part.l_x, whole.l_x)


def test_a_model_learns_to_withstand_it() -> None:
    """Three classes by the brightness of one pixel, beside others that mean little and are easily
    moved: attacked, the model that has seen attacks is right more often."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(96) % 3
    pixels = 0.4 + 0.2 * torch.rand((96, 1, 4, 4), generator=generator)
    pixels[:, 0, 0, 0] = 0.2 + 0.3 * labels
    pixels[:, 0, 1:] += 0.02 * (labels[:, None, None] - 1)
    shares = []
    for config in (replace(CONFIG, adversarial_eps=0.0), CONFIG):
        made = Stepper(learner(), replace(config, beta=8.0), Alone())
        for step in range(150):
            torch.manual_seed(step)
            order = torch.randperm(96, generator=torch.Generator().manual_seed(step))[:32]
            made.step(Batch(pixels=pixels[order], labels=labels[order], images=32), 5e-3)
        torch.manual_seed(0)
        attacked = adversarial(made.learner.logits, pixels, labels, eps=16 / 255, steps=10)
        shares.append(float((made.learner.logits(attacked).argmax(1) == labels).float().mean()))
    assert shares[1] > shares[0] + 0.1


def test_a_baseline_is_trained_alike() -> None:
    """Its statistics of batches are those of what it learns from, once a step."""
    torch.manual_seed(0)
    made = Stepper(build_learner(ResNetClassifier(matched_resnet(FLOW)), CONFIG), CONFIG, Alone())
    made.learner.train()
    result = made.step(batch(), learning_rate=1e-3)
    assert result is not None
    assert torch.isfinite(result.total)
    counts = [v for name, v in made.learner.state_dict().items() if "num_batches" in name]
    assert counts
    assert {int(count) for count in counts} == {1}
    assert made.learner.training


def test_processes_share_what_is_moved() -> None:
    """As one process has it: the first half of the whole batch; one image stays at least."""
    made = Stepper(learner(), CONFIG, Alone())
    whole = batch(9)
    for size in (2, 3, 5):
        shares = []
        for rank in range(size):
            world = Alone()
            world.rank, world.size = rank, size
            made._world = world
            mine = slice(rank, None, size)
            part = Batch(pixels=whole.pixels[mine], labels=whole.labels[mine], images=9)
            shares.append(made._moved(part))
            assert 0 <= shares[-1] < len(part.labels)
        if size < 5:
            assert sum(shares) == moved_images(9)


def test_figures_leave_out_what_was_moved() -> None:
    """A density that overflows where an attacker has been is no divergence."""
    made, some = learner(), batch()
    result = made(some.pixels, some.labels, 4)
    assert len(result.log_prob) == 5
    meter = Meter(FLOW)
    meter.add(result, some.labels)
    expected = made.classifier(some.pixels[4:]).log_prob.detach().double().mean()
    assert meter.sums()[1] == pytest.approx(9 * float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial_eps": -1.0}, "adversarial_eps -1.0: expected 0 .none. to 255 8-bit levels"),
        ({"adversarial_eps": 256.0}, "adversarial_eps 256.0: expected"),
        ({"adversarial_steps": 0}, "adversarial_steps 0: expected at least 1"),
        ({"adversarial_steps": 101}, "adversarial_steps 101: expected 100 at most"),
        ({"batch_size": 1}, "adversarial_eps with batch_size 1: .* expected a batch_size of 2"),
        ({"beta": 0.0}, "adversarial_eps with beta 0: .* expected a beta above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_settings_of_earlier_versions_have_none() -> None:
    content = CONFIG.to_dict()
    del content["adversarial_eps"], content["adversarial_steps"]
    assert TrainConfig.from_dict(content).adversarial_eps == 0
    assert TrainConfig.from_dict(CONFIG.to_dict()) == CONFIG
