"""Optimiser and learning rate."""

import math

import torch

from facetrain.config.schema import TrainConfig
from facetrain.model.yunet import YuNet
from facetrain.train.muon import Muon, split_parameters

Plan = tuple[tuple[int, int], ...]  # (step, total): from this step on the run is to end after `total` steps


def make_optimizer(model: YuNet, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters, all with the same weight decay, as published; or Muon with its AdamW part."""
    rate = base_rate(config)
    if config.optimizer == "muon":
        other = config.muon.adamw_lr * config.batch / config.lr_batch
        betas = (config.momentum, 0.999)
        matrices, others = split_parameters(model)
        return Muon(matrices, others, rate, other, config.muon.weight_decay, config.weight_decay, betas)
    if config.optimizer == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(model.parameters(), rate, betas=betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(model.parameters(), rate, momentum=config.momentum, weight_decay=config.weight_decay)


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
    """Rate of a step. epoch and step count from 0; step over the whole run.

    Steps fall at the start of epochs round(milestone · epochs), a cosine runs over all steps; warm-up multiplies both.
    plan: a run planned by time instead; milestones are shares of its progress, warm-up begins with the first plan and
    is as long as that says
    """
    rate = base_rate(config)
    progress = step / max(1, total_steps) if plan is None else progress_of(plan, step)
    if config.schedule == "cosine":
        rate *= config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    elif plan is None:
        rate *= config.gamma ** sum(epoch >= round(m * config.epochs) for m in config.milestones)
    else:
        rate *= config.gamma ** sum(progress >= m for m in config.milestones)
    start, first_total = (0, total_steps) if plan is None else plan[0] if plan else (step, step)
    length = warmup_length(config, first_total)
    if not plan and plan is not None and config.warmup_limit > 0 and config.warmup_steps > 0:
        length = max(1, length)  # still measuring: the gentlest step there is
    if step - start < length:
        rate *= 1 - (1 - max(0, step - start) / length) * (1 - config.warmup_start)
    return rate
