"""Importing a room loads nothing it does not need."""

import subprocess
import sys

import pytest

LIGHT = {
    "retrail.core": ("numpy", "torch", "langchain_core", "langgraph", "chromadb", "ir_measures"),
    "retrail.tools": ("torch", "langgraph", "langchain", "transformers", "datasets"),
    "retrail.agents": ("torch", "langchain", "transformers", "datasets", "sentence_transformers"),
    "retrail.retrievers.training": ("torch", "langchain_core", "transformers", "datasets"),
}


@pytest.mark.parametrize("room", LIGHT)
def test_importing_a_room_loads_nothing_it_does_not_need(room):
    code = f"import {room}, sys; sys.stdout.write('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & set(LIGHT[room]) == set()
