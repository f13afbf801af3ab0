"""Whether a model will run on a board: operators, memory, time, against its hardware profile."""
