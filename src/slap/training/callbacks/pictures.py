"""Pictures and example captions for the loggers that take them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from slap.training.callbacks.test_report import COLUMNS, ReportWriter, Sample, figures, sample_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from slap.training.held_out import HeldOutMetrics


class Pictures(Callback):
    """Sends recall curves and confusion matrices after each validation and test, and example captions of a test.

    TensorBoard, Weights & Biases and MLflow take them.

    Args:
        report: the callback that captions clips of a test.
    """

    def __init__(self, report: ReportWriter) -> None:
        self._report = report

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the plots, but not of the trial validation before training."""
        if not trainer.sanity_checking:
            self._send(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the plots and the captions."""
        self._send(trainer, pl_module, "test")
        for logger in trainer.loggers if self._report.samples else ():  # which only the first process has
            send_captions(logger, "test/captions", self._report.samples, trainer.global_step)

    def _send(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        evaluation: HeldOutMetrics = module.evaluation  # type: ignore[assignment]
        for name, figure in figures(evaluation).items():
            for logger in trainer.loggers:
                send_figure(logger, f"{stage}/{name}", figure, trainer.global_step)


def send_figure(logger: Logger, name: str, figure: Figure, step: int) -> None:
    """Send a picture to a logger, if it takes any.

    Args:
        logger: the logger.
        name: the picture's name, with `/` between its parts.
        figure: the picture.
        step: number of optimizer steps.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(name, figure, step)
    elif isinstance(logger, WandbLogger):
        from PIL import Image  # matplotlib brings it

        picture = BytesIO()
        figure.savefig(picture, format="png")
        logger.log_image(name, [Image.open(picture)], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_figure(logger.run_id, figure, f"{name}/step_{step}.png")


def send_captions(logger: Logger, name: str, samples: Sequence[Sample], step: int) -> None:
    """Send captions to a logger that takes pictures, with the arguments of `send_figure`."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(name, sample_table(samples), step)
    elif isinstance(logger, WandbLogger):
        logger.log_table(name, list(COLUMNS), [[one.clip, one.reference, one.written] for one in samples], step=step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_text(logger.run_id, sample_table(samples), f"{name}/step_{step}.md")
