"""What must be quick to import is. The layers are held by import-linter, see `make layers`."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["slap", "slap.cli.main", "slap.cli.plugins"])
def test_light_modules_import_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in ('torch', 'lightning', 'lhotse') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
