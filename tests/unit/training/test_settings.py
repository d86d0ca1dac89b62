"""Optimizers and schedules by name."""

import inspect

import pytest
import torch
from torch import nn

from modelyard.errors import BadInput
from modelyard.spec.train import Optimizer, Schedule
from modelyard.training.optimizers import classes_of, make_optimizer
from modelyard.training.schedules import _NEED_OBJECTS, Rates
from modelyard.units import Percentage

OPTIMIZERS = classes_of(torch.optim, torch.optim.Optimizer)
SCHEDULES = {
    name: cls
    for name, cls in classes_of(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler).items()
    if name not in _NEED_OBJECTS
}
NEEDED = {
    "steplr": {"step_size": 2}, "multisteplr": {"milestones": [1, 3]}, "exponentiallr": {"gamma": 0.9},
    "onecyclelr": {"max_lr": 0.5}, "cycliclr": {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    "cosineannealingwarmrestarts": {"T_0": 2},
}  # fmt: skip


def params() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(3, 3))]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_is_found_by_name_in_any_case(name):
    spec = Optimizer(name=OPTIMIZERS[name].__name__.upper(), lr=0.01)
    assert type(make_optimizer(spec, params())) is OPTIMIZERS[name]


BAD_OPTIMIZERS = {
    "an unknown optimizer": (Optimizer(name="adamm"), r"no optimizer 'adamm' \(nearest: adam"),
    "an unknown option": (
        Optimizer(name="SGD", options={"momentun": 0.9}),
        r"SGD has no 'momentun' \(nearest: momentum",
    ),
    "an option with a field of its own": (Optimizer(options={"lr": 0.1}), "lr has a field of its own"),
    "a value that the class refuses": (Optimizer(options={"betas": [2.0, 0.9]}), "AdamW refuses these values"),
    "weight decay where there is none": (Optimizer(name="lbfgs", weight_decay=0.1), "LBFGS knows no weight decay"),
}


@pytest.mark.parametrize(("spec", "told"), BAD_OPTIMIZERS.values(), ids=BAD_OPTIMIZERS.keys())
def test_an_optimizer_that_cannot_be_used_is_refused(spec, told):
    with pytest.raises(BadInput, match=told):
        make_optimizer(spec, params())


def test_muon_refuses_parameters_that_are_no_matrices_by_name():
    with pytest.raises(BadInput, match="Muon refuses these values"):
        make_optimizer(Optimizer(name="muon"), [nn.Parameter(torch.zeros(3))])


def rates(spec: Schedule, *, epochs: int = 4, per_epoch: int = 5, name: str = "sgd") -> list[float]:
    """The rate of every update."""
    optimizer = make_optimizer(Optimizer(name=name, lr=0.1), params())
    schedule = Rates(spec, optimizer, updates=epochs * per_epoch, epochs=epochs)
    seen = []
    for _epoch in range(epochs):
        for _ in range(per_epoch):
            seen.append(optimizer.param_groups[0]["lr"])
            schedule.after_update()
        schedule.after_epoch(1.0)
    return seen


@pytest.mark.parametrize("name", [*SCHEDULES, "constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", ["0%", "20%"])
def test_every_schedule_walks_again_to_the_same_rate(name, warmup):
    """A resumed training must go on at the very rate where it was killed."""
    spec = Schedule(name=name, options=NEEDED.get(name, {}), warmup=Percentage(warmup))
    expected = rates(spec)
    for done in range(20):
        optimizer = make_optimizer(Optimizer(name="sgd", lr=0.1), params())
        again = Rates(spec, optimizer, updates=20, epochs=4)
        whole, part = divmod(done, 5)
        again.walk([*[5] * whole, part], [1.0] * whole)
        assert optimizer.param_groups[0]["lr"] == expected[done]


def test_a_warm_up_rises_from_zero_to_the_schedules_own_rate():
    assert rates(Schedule(warmup=Percentage("20%")))[:6] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_cosine_ends_near_zero_and_linear_falls_evenly():
    assert rates(Schedule(name="cosine"))[-1] < 0.001
    falls = rates(Schedule(name="linear"))
    assert falls[0] == 0.1
    assert falls[10] == pytest.approx(0.05)


def test_a_schedule_that_counts_epochs_does_so():
    assert rates(Schedule(name="StepLR", options={"step_size": 2, "gamma": 0.1})) == pytest.approx(
        [0.1] * 10 + [0.01] * 10
    )


def test_a_plateau_lowers_the_rate_when_the_loss_stays():
    seen = rates(Schedule(name="ReduceLROnPlateau", options={"patience": 0, "factor": 0.5}))
    assert seen[0] == 0.1
    assert seen[-1] == pytest.approx(0.025)


def test_a_schedule_that_needs_its_length_is_told_it():
    assert rates(Schedule(name="CosineAnnealingLR"))[-1] < 0.02
    assert max(rates(Schedule(name="OneCycleLR", options={"max_lr": 0.5}))) == pytest.approx(0.5, rel=0.1)


BAD_SCHEDULES = {
    "an unknown schedule": (Schedule(name="cosin"), r"'cosin' is no schedule \(nearest: cosine"),
    "one whose arguments are Python objects": (Schedule(name="LambdaLR"), "takes Python objects"),
    "an unknown option": (Schedule(name="steplr", options={"stepsize": 1}), r"no 'stepsize' \(nearest: step_size"),
    "an option that is missing": (Schedule(name="exponentiallr"), "ExponentialLR needs gamma"),
    "options where there are none": (Schedule(name="cosine", options={"T_max": 3}), "cosine takes none"),
    "a value that the class refuses": (
        Schedule(name="onecyclelr", options={"max_lr": 0.1, "pct_start": 7.0}), "OneCycleLR refuses these values",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "told"), BAD_SCHEDULES.values(), ids=BAD_SCHEDULES.keys())
def test_a_schedule_that_cannot_be_used_is_refused(spec, told):
    with pytest.raises(BadInput, match=told):
        rates(spec)


def test_no_schedule_of_torch_was_forgotten():
    """A new class whose arguments YAML cannot carry would show up here."""
    for name, cls in SCHEDULES.items():
        needed = [
            key
            for key, parameter in inspect.signature(cls).parameters.items()
            if parameter.default is parameter.empty and key not in ("optimizer", "T_max", "self")
        ]
        assert set(needed) <= set(NEEDED.get(name, {})), name
