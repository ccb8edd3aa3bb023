"""
The site: ``make docs`` builds it, ``make docs-serve`` shows it.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "gcp-oncetask"
author = "the gcp-oncetask authors"
release = importlib.metadata.version("gcp-oncetask")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "glossary_links",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["extensions"]
nitpicky = False
default_role = "code"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Guarantee", "No guarantee", "Shape", ("Source", "params_style")]

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = "gcp-oncetask"
html_static_path: list[str] = []
html_show_sourcelink = False
html_theme_options = {
    "source_repository": "https://github.com/gcp-oncetask/gcp-oncetask/",
    "source_branch": "main",
    "source_directory": "docs/",
}
