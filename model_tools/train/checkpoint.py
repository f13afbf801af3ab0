"""A trained module between two commands: weights and what they were made for, in a folder."""

import io
import pickle
from pathlib import Path

import msgspec
import torch

from model_tools.data.dataset import Splits
from model_tools.errors import BadInput
from model_tools.sections import Recipe
from model_tools.storage import write_whole
from model_tools.task import Task
from model_tools.train.recipes import make_network
from model_tools.train.training import Trained, learnable

_WEIGHTS = "weights.pt"
_ABOUT = "trained.json"


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    recipe: Recipe
    seed: int
    width: int
    task_sha256: str
    data_sha256: str
    run: str
    parent: str | None


def save_checkpoint(trained: Trained, folder: Path) -> None:
    """Writes two files into `folder`, made if need be. Raises Failed when the disk does not take them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = io.BytesIO()
    torch.save(trained.module.state_dict(), weights)
    t = trained
    about = _About(t.recipe, t.seed, t.width, t.task_sha256, t.data_sha256, t.run, t.parent)
    write_whole(folder / _WEIGHTS, weights.getvalue())
    write_whole(folder / _ABOUT, msgspec.json.format(msgspec.json.encode(about)))


def load_checkpoint(task: Task, splits: Splits, folder: Path) -> Trained:
    """Raises BadInput when there is none, it is torn, or the task file or its data have changed since."""
    trained = load_parent(task, splits, folder)
    if (trained.task_sha256, trained.data_sha256) != (task.sha256, splits.sha256):
        raise BadInput(f"the task file or its data have changed since {folder} was trained", field=str(folder))
    return trained


def load_parent(task: Task, splits: Splits, folder: Path) -> Trained:
    """One to go on from: of the same recipe, columns and classes, whatever its data were. Raises BadInput."""
    try:
        about = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=_About)
        state = torch.load(io.BytesIO((folder / _WEIGHTS).read_bytes()), weights_only=True)
    except (OSError, ValueError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BadInput(f"{folder} holds no trained model: {error}", field=str(folder)) from error
    if about.recipe != task.recipe:
        raise BadInput(f"{folder} was trained by recipe {about.recipe!r}, the task wants {task.recipe!r}", field=str(folder))
    module = make_network(task, learnable(task, splits.train), about.width)
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise BadInput(f"the weights in {folder} are another network's", field=str(folder)) from error
    return Trained(module.eval(), about.recipe, about.seed, about.width, about.task_sha256, about.data_sha256, about.run, about.parent)
