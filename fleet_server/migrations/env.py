"""Run by Alembic with the connection that `tables.database.migrate` opened."""

import importlib
import pkgutil

from alembic import context
from sqlmodel import SQLModel

from fleet_server import tables

for _module in pkgutil.iter_modules(tables.__path__):
    importlib.import_module(f"{tables.__name__}.{_module.name}")

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
with context.begin_transaction():
    context.run_migrations()
