"""How good models are."""

import typer

from model_tools.errors import GateFailed
from model_tools.gates import judge, reason
from model_tools.terminal import Json, ModelFile, TaskFile, answer

app = typer.Typer()


@app.command()
def evaluate(task: TaskFile, fp32: ModelFile, int8: ModelFile, as_json: Json = False) -> None:
    """Measure an fp32 and an int8 model on the task's test data and judge them by its gates (exit code 3: refused).

    \b
    Example:
      model-tools evaluate task.toml fp32.onnx int8.onnx --json
    """
    from model_tools import workbench
    from model_tools.build import measure, measured

    loaded = workbench.load_task(task)
    found = measure(loaded, workbench.read_splits(loaded), fp32.read_bytes(), int8.read_bytes())
    judged = judge(loaded.gates, found.scores())
    per_class = {"fp32": found.fp32_test.per_class, "int8": found.int8_test.per_class}
    answer({"metrics": measured(found), "per_class": per_class, "gates": judged}, as_json)
    if not all(gate.passed for gate in judged):
        raise GateFailed(reason(judged))
