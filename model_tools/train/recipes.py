"""From a recipe's word to a network."""

from torch import nn

from model_tools.data.dataset import Dataset
from model_tools.errors import BadTask
from model_tools.sections import Recipe
from model_tools.task import Task
from model_tools.train import networks
from model_tools.train.layers import Denormalisation, Normalisation
from model_tools.train.own import load_own

USUAL_WIDTH: dict[Recipe, int] = {
    "vector-mlp": 64,
    "window-cnn": 32,
    "image-cnn": 16,
    "image-mobile": 16,
    "autoencoder": 64,
    "module": 64,
}


def make_network(task: Task, rows: Dataset, width: int) -> nn.Sequential:
    """Untrained, normalising by these rows: raw float32 inputs to logits (rows, classes), to estimates (rows, 1) in the target's unit, or to
    scores (rows, 1). Raises BadTask for a module of one's own that does not fit."""
    outputs = max(1, len(rows.classes)) if task.kind == "classification" else 1
    body = _body(task, rows, outputs, width)
    return body.append(Denormalisation(rows.labels)) if task.kind == "regression" else body


def _body(task: Task, rows: Dataset, outputs: int, width: int) -> nn.Sequential:
    match task.recipe:
        case "vector-mlp":
            return networks.make_vector_network(rows.inputs, outputs, width)
        case "window-cnn":
            return networks.make_window_network(rows.inputs, outputs, width)
        case "image-cnn":
            return networks.make_image_network(rows.inputs, outputs, width)
        case "image-mobile":
            return networks.make_mobile_network(rows.inputs, outputs, width)
        case "autoencoder":
            return networks.make_autoencoder(rows.inputs, width)
        case "module":
            if task.train.module is None:
                raise BadTask("this recipe needs train.module", field="train.module")
            own = load_own(task.train.module, task.folder, rows.inputs.shape[1:], outputs)
            return nn.Sequential(Normalisation(rows.inputs), own)
