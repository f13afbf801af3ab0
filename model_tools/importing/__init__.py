"""Models made elsewhere, brought into the workbench as checked files. Nothing is ever unpickled."""
