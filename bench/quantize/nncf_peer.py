"""Run by NNCF's own interpreter: FOLDER/float.onnx and rows.npy to int8.onnx, by its defaults."""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx


def main(folder: Path) -> None:
    rows = np.load(folder / "rows.npy")
    data = nncf.Dataset(list(rows), lambda row: {"input": row[None]})
    onnx.save(nncf.quantize(onnx.load(folder / "float.onnx"), data, subset_size=len(rows)), folder / "int8.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
