"""Sphinx's settings; `make docs` builds."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHARM = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())

project = CHARM["title"]
html_title = project
html_show_copyright = False
html_theme = "furo"
html_logo = "../icon.svg"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
# In docstrings, single backquotes mark code.
default_role = "literal"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True

# References must have targets, except those to other packages, whose inventories would be downloaded.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!kfp_ops).*")]
