"""The field's corpora in their official layouts, one file each. Importing this package registers them.

`slap prepare NAME ROOT OUT` turns one into manifests; `base` says how to add one.
"""

from slap.datamodules.corpora.esc50 import ESC50 as ESC50
