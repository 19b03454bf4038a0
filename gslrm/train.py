"""``python -m gslrm.train``: train a GS-LRM on scenes from disk."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gslrm.files import one_line

if TYPE_CHECKING:
    from gslrm.config import Config
    from gslrm.data.views import ViewBatch
    from gslrm.training.trainer import PassResult, Trainer


# Takes a batch and the number of its pass; gives the batch to train on, and what was done to it, or None.
Spoil = Callable[["ViewBatch", int], tuple["ViewBatch", "str | None"]]


def main(arguments: Sequence[str] | None = None, spoil: Spoil | None = None) -> int:
    """Train, and return the exit code: 0 done, 2 for settings, scenes or files that are wrong.

    Args:
        spoil: changes batches before they are trained on; what it says of a batch is logged as its ``fault``.
    """
    options = _parser().parse_args(arguments)
    # A checkpoint of its own reader's errors, a scene's and a configuration's are all ValueErrors with one sentence.
    try:
        return _train(options, spoil or (lambda batch, pass_step: (batch, None)))
    except (ValueError, OSError) as error:
        print(f"train: {one_line(str(error), 2000)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gslrm.train", description="Train a GS-LRM.")
    parser.add_argument("--scene", metavar="PATH", help="a scene's folder, or a list file of them; else dataset_path")
    parser.add_argument("--preset", default="tiny", help="tiny (default) or facelift")
    parser.add_argument("--config", metavar="FILE", help="a YAML file instead of a preset")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer windows to run")
    parser.add_argument("--amp", choices=("fp16", "bf16", "fp32"), help="precision of the forward pass")
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="log, checkpoint, pictures; else checkpoint_dir")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help="passes between two checkpoints")
    parser.add_argument("--pictures-every", type=int, metavar="N", help="passes between two sheets of pictures")
    return parser


def _train(options: argparse.Namespace, spoil: Spoil) -> int:
    import torch

    from gslrm.data.listing import scene_folders
    from gslrm.data.scene import load_scene
    from gslrm.model.checkpoint import newest_checkpoint
    from gslrm.training.sampling import Sampler
    from gslrm.training.trainer import Trainer

    config = _config(options)
    training = config.training
    dataset, runtime, resume_ckpt = training.dataset, training.runtime, training.checkpointing.resume_ckpt
    where = options.scene or dataset.dataset_path
    if where is None:
        raise ValueError("there is nothing to train on: give --scene, or training.dataset.dataset_path")
    out = options.out or Path(training.checkpointing.checkpoint_dir or "runs/gslrm")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    scenes = [
        load_scene(
            folder,
            config.model.image_tokenizer.image_size,
            background=dataset.background_color,
            remove_alpha=dataset.remove_alpha,
            mask_threshold=dataset.mask_threshold,
        )
        for folder in scene_folders(where)
    ]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = runtime.use_tf32
    with _process_group(device) as (rank, processes):
        sampler = Sampler(scenes, dataset, runtime.seed, rank, training.dataloader.batch_size_per_gpu)
        trainer = Trainer(config, device, passes_per_epoch=sampler.passes_per_epoch(processes))
        checkpoint = out / "checkpoint.pt"
        if options.resume and checkpoint.is_file():
            trainer.resume(checkpoint)
        elif resume_ckpt:
            trainer.start_from(newest_checkpoint(resume_ckpt))
        _loop(trainer, sampler.batch, spoil, out, rank)
    return 0


def _config(options: argparse.Namespace) -> Config:
    from gslrm.config import load_config

    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps is {options.steps}; it must be at least 1")
    overrides = list(options.set)
    if options.amp is not None:
        overrides.append(f"training.runtime.use_amp={'false' if options.amp == 'fp32' else 'true'}")
        overrides.append(f"training.runtime.amp_dtype={'null' if options.amp == 'fp32' else options.amp}")
    for option, key in (
        (options.checkpoint_every, "checkpointing.checkpoint_every"),
        (options.pictures_every, "logging.vis_every"),
    ):
        if option is not None:
            overrides.append(f"training.{key}={option}")
    config = load_config(options.config or options.preset, overrides)
    return config if options.steps is None else _lasting(config, options.steps)


def _lasting(config: Config, windows: int) -> Config:
    """The same training, so many optimizer windows long."""
    training = config.training
    passes = windows * training.runtime.grad_accum_steps
    schedule = replace(training.schedule, num_epochs=None, early_stop_after_epochs=None, max_fwdbwd_passes=passes)
    return replace(config, training=replace(training, schedule=schedule))


def _loop(trainer: Trainer, batches: Callable[[int], ViewBatch], spoil: Spoil, out: Path, rank: int) -> None:
    """Windows until the training's end; a skipped window counts as one that was run."""
    from rich.console import Console
    from rich.progress import Progress

    from gslrm.training.run_log import RunLog

    settings, step = trainer.config.training, trainer.step
    accumulation = step.grad_accum_steps
    total = trainer.passes // accumulation

    def due(every: int) -> bool:
        """Whether one of each so many passes was in the window that is over."""
        return every > 0 and step.fwdbwd_pass_step // every > (step.fwdbwd_pass_step - accumulation) // every

    console = Console(quiet=rank != 0)
    # Every process logs: a skip is everyone's, a loss is one's own.
    name = "log.jsonl" if rank == 0 else f"log.{rank}.jsonl"
    with RunLog(out / name) as log, Progress(console=console, disable=rank != 0) as progress:
        bar = progress.add_task("training", total=total, completed=step.fwdbwd_pass_step // accumulation)
        while step.fwdbwd_pass_step < trainer.passes:
            batch, fault = spoil(batches(step.fwdbwd_pass_step), step.fwdbwd_pass_step)
            result = trainer.train_step(batch)
            outcome = trainer.optimizer_step()
            numbers = result.losses.numbers()
            entry: dict[str, Any] = {"pass": step.fwdbwd_pass_step, "update": step.param_update_step, **numbers}
            if fault is not None:
                entry["fault"] = fault
            if outcome is None:
                log.write(**entry)
                continue
            reason = None if outcome.reason is None else outcome.reason.value
            log.write(**entry, stepped=outcome.stepped, reason=reason, grad_norm=outcome.grad_norm, scale=outcome.scale)
            window = step.fwdbwd_pass_step // accumulation
            progress.update(bar, completed=window, description=f"loss {numbers['loss']:.4f}")
            if reason is not None:
                progress.console.print(f"window {window}: skipped, {reason.replace('_', ' ')}", style="yellow")
            elif due(settings.logging.print_every) and not console.is_terminal:
                progress.console.print(f"window {window} of {total}: loss {numbers['loss']:.4f}")
            if rank == 0:
                last = window == total
                if last or due(settings.checkpointing.checkpoint_every):
                    trainer.save(out / "checkpoint.pt")
                if settings.logging.vis_every and (last or due(settings.logging.vis_every)):
                    _write_pictures(out / f"pictures-{window:06d}.png", result)


def _write_pictures(path: Path, result: PassResult) -> None:
    from gslrm.rendering.pictures import write_side_by_side

    write_side_by_side(path, result.target[0].cpu(), result.rendering[0].cpu())


@contextlib.contextmanager
def _process_group(device: str) -> Any:
    """This process's rank, and how many there are; under torchrun, with the process group set up around them."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield 0, 1
        return
    import torch
    import torch.distributed

    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
