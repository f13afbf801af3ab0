"""Two models on the same rows: where they differ, by how much, and how sure that is."""
