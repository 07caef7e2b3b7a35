"""Optimiser and learning rate."""

import math

import torch
from torch import nn

from facetrain.config.schema import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters, all with the same weight decay, as published."""
    rate = base_rate(config)
    if config.optimizer == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(model.parameters(), rate, betas=betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(model.parameters(), rate, momentum=config.momentum, weight_decay=config.weight_decay)


def base_rate(config: TrainConfig) -> float:
    """The full rate of this run: the configured one is meant for a batch of `lr_batch`."""
    return config.lr * config.batch / config.lr_batch


def warmup_length(config: TrainConfig, total_steps: int) -> int:
    """Steps of warm-up: as configured, but at most a share of the run."""
    return min(config.warmup_steps, int(config.warmup_limit * total_steps))


def gradient_limit(config: TrainConfig, total_steps: int) -> float | None:
    """Largest gradient norm of this run; None: no clipping.

    Untrained objectness gives gradients in the hundreds. The whole warm-up takes them off gently; cut to some tens of
    steps it does not, and SGD at the published rate ends in NaN within fifty steps.
    """
    if config.clip is None and warmup_length(config, total_steps) < config.warmup_steps:
        return config.short_run_clip
    return config.clip


def learning_rate(config: TrainConfig, epoch: int, step: int, total_steps: int) -> float:
    """Rate of a step. epoch and step count from 0; step over the whole run.

    Steps fall at the start of epochs round(milestone · epochs), a cosine runs over all steps; warm-up multiplies both.
    """
    rate = base_rate(config)
    if config.schedule == "cosine":
        progress = step / max(1, total_steps)
        rate *= config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2
    else:
        rate *= config.gamma ** sum(epoch >= round(m * config.epochs) for m in config.milestones)
    length = warmup_length(config, total_steps)
    if step < length:
        rate *= 1 - (1 - step / length) * (1 - config.warmup_start)
    return rate
