"""Optimisers, and the learning rate of every step."""

from collections.abc import Callable

import torch

from facetrain.config.schema import TrainConfig
from facetrain.model.yunet import YuNet
from facetrain.train.optim.muon import Muon, split_parameters
from facetrain.train.optim.schedules import SCHEDULES

Plan = tuple[tuple[int, int], ...]  # (step, total): from this step on the run is to end after `total` steps


def make_optimizer(model: YuNet, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimiser over all parameters."""
    return OPTIMIZERS[config.optimizer](model, config)


def sgd(model: YuNet, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD, all parameters with the same weight decay, as published."""
    return torch.optim.SGD(
        model.parameters(),
        base_rate(config),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=_fused(model),
    )


def adamw(model: YuNet, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, all parameters with the same weight decay."""
    betas = (config.momentum, 0.999)
    return torch.optim.AdamW(
        model.parameters(), base_rate(config), betas=betas, weight_decay=config.weight_decay, fused=_fused(model)
    )


def _fused(model: YuNet) -> bool | None:
    """Whether torch moves all parameters by one call; None: by its default, which on a CPU goes one by one for long."""
    return True if next(model.parameters()).is_cpu else None


def muon(model: YuNet, config: TrainConfig) -> torch.optim.Optimizer:
    """Muon for the matrices, and its AdamW part for the others."""
    other = config.muon.adamw_lr * config.batch / config.lr_batch
    betas = (config.momentum, 0.999)
    matrices, others = split_parameters(model)
    return Muon(matrices, others, base_rate(config), other, config.muon.weight_decay, config.weight_decay, betas)


OPTIMIZERS: dict[str, Callable[[YuNet, TrainConfig], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adamw": adamw,
    "muon": muon,
}


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every group go at this rate, times the group's own factor where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def base_rate(config: TrainConfig) -> float:
    """The full rate of this run: the configured one is meant for a batch of `lr_batch`."""
    return config.lr * config.batch / config.lr_batch


def warmup_length(config: TrainConfig, total_steps: int) -> int:
    """Steps of warm-up: as configured, but at most a share of the run."""
    return min(config.warmup_steps, int(config.warmup_limit * total_steps))


def gradient_limit(config: TrainConfig, total_steps: int | None) -> float | None:
    """Largest gradient norm of this run; None: no clipping. total_steps: None for a run planned by time.

    Untrained objectness gives gradients in the hundreds. The whole warm-up takes them off gently; cut to some tens of
    steps it does not, and SGD at the published rate ends in NaN within fifty steps.
    """
    if config.clip is None and (total_steps is None or warmup_length(config, total_steps) < config.warmup_steps):
        return config.short_run_clip
    return config.clip


def progress_of(plan: Plan, step: int) -> float:
    """How far a run is after so many steps, 0 … 1, by its plans: each goes on where the one before had come to.

    0 until there is a plan.
    """
    done, start, total = 0.0, 0, None
    for begin, planned in plan:
        if begin > step:
            break
        if total is not None:
            done += (begin - start) * (1 - done) / max(1, total - start)
        start, total = begin, planned
    if total is None:
        return 0.0
    return min(1.0, done + (step - start) * (1 - done) / max(1, total - start))


def learning_rate(config: TrainConfig, epoch: int, step: int, total_steps: int, plan: Plan | None = None) -> float:
    """Rate of a step: the full one, times the schedule's factor, times that of the warm-up.

    epoch and step count from 0; step over the whole run
    plan: a run planned by time instead; the schedule goes by its progress, warm-up begins with the first plan and is as
    long as that says
    """
    schedule = SCHEDULES[config.schedule]
    if plan is None:
        factor = schedule.factor(config, step / max(1, total_steps), epoch)
    else:
        factor = schedule.factor(config, progress_of(plan, step), None)
    rate = base_rate(config) * factor
    start, first_total = (0, total_steps) if plan is None else plan[0] if plan else (step, step)
    length = warmup_length(config, first_total)
    measuring = plan is not None and (not plan or step < start)  # a repeat knows what will be planned then
    if measuring and config.warmup_limit > 0 and config.warmup_steps > 0:
        length = max(1, length)  # the gentlest step there is
    if length and step - start < length:
        rate *= 1 - (1 - max(0, step - start) / length) * (1 - config.warmup_start)
    return rate
