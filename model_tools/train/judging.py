"""How well a module that is still torch does, for choices while training."""

import numpy as np
import torch
from torch import nn

from model_tools.data.dataset import Dataset
from model_tools.evaluate.answering import fit_answer, fit_temperature
from model_tools.evaluate.scoring import Evaluation, score
from model_tools.task import Task
from model_tools.train.loss import loss_for

_ROWS = 512


def ask(module: nn.Module, rows: Dataset) -> np.ndarray:
    """float32 (rows, ...), of a module in evaluation mode."""
    with torch.inference_mode():
        return torch.cat([module(part) for part in torch.from_numpy(rows.inputs).split(_ROWS)]).numpy()


def judge(task: Task, module: nn.Module, rows: Dataset, known: Dataset) -> Evaluation:
    """On `rows`; thresholds and temperatures come from `known`."""
    return score(ask(module, rows), rows, fit_answer(task, "logits", ask(module, known), known), 0)


def cost(task: Task, module: nn.Module, rows: Dataset) -> float:
    """The less the better: the cross entropy at the best temperature, the squared error, or what the area under the ROC curve lacks (the
    reconstruction error where no anomaly is known)."""
    answers = ask(module, rows)
    if task.kind == "anomaly" and len(np.unique(rows.labels)) == 2:
        from sklearn.metrics import roc_auc_score

        return 1 - float(roc_auc_score(rows.labels, answers.ravel()))
    if task.kind == "classification":
        answers = answers / np.float32(fit_temperature(answers, rows.labels))
    loss = loss_for(task.kind, rows, balanced=task.train.class_weights == "balanced", smoothing=0.0)
    return float(loss(torch.from_numpy(answers), torch.from_numpy(rows.labels)))
