"""From the files that a task names to labelled, split rows in memory."""
