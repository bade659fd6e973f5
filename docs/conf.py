"""The documentation: Markdown by MyST, the theme Furo, and pages that are generated from the installed package."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "SLAP"
author = "The SLAP authors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx names it so
release = version = installed("slap-audio")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "plain_docstrings", "generated_pages"]
exclude_patterns = ["_ext"]
nitpicky = True

html_theme = "furo"
html_title = f"SLAP {release}"
html_static_path = ["_static"]
html_css_files = ["slap.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_use_type_comments = False
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_display_short_literal_types = True

# Only names of this package are links, so that the build needs no network; everything else stays plain text.
# Names in backticks are checked by plain_docstrings; type variables have no page.
nitpick_ignore_regex = [("py:.*", r"(?!slap\.).*"), ("py:obj", r".*"), ("py:class", r"slap\..*\.([A-Z]|_\w+)")]
smartquotes = False  # `--` is an option
suppress_warnings = ["ref.python"]  # an unqualified annotation that two modules define: no link is wrong
toc_object_entries = False
default_role = "code-or-link"  # of docstrings; Markdown has none
