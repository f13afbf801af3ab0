"""From what a task names to its rows, split: the one place that knows every reader."""

from model_tools.data import arrays, json_lines, parquet, pictures, recordings, rows, vectors, windows
from model_tools.data.dataset import Splits
from model_tools.data.split import split
from model_tools.data.table import Table
from model_tools.errors import BadData
from model_tools.sections import CsvFile, ImageFolder, JsonLinesFile, NumpyFile, ParquetFile, WavFolder, WindowShape
from model_tools.task import Task


def read_splits(task: Task) -> Splits:
    """All rows of the task, split; windows are cut within each part. Raises BadData."""
    match task.data:
        case ImageFolder():
            return split(pictures.read_pictures(task), task.split, task.kind)
        case WavFolder():
            return recordings.read_recordings(task)
        case NumpyFile():
            read = arrays.read_arrays(task)
        case _:
            read = vectors.read_rows(task, open_table(task))
    if isinstance(task.input, WindowShape) and read.rows.inputs.ndim == 2:
        return windows.split_stream(read, task.split, task.kind, task.input)
    return split(read.rows, task.split, task.kind)


def open_table(task: Task) -> Table:
    """The task's table. Raises BadData."""
    source = task.data
    match source:
        case CsvFile():
            labels = None if source.labels is None else task.resolve(source.labels)
            return rows.open_csv(source, task.resolve(source.file), labels)
        case ParquetFile():
            return parquet.open_parquet(task.resolve(source.file))
        case JsonLinesFile():
            return json_lines.open_json_lines(task.resolve(source.file))
    raise BadData("the task reads no table", field="data.reader")
