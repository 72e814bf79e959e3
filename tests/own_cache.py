"""Keeps a test process offline, and gives it its own Hugging Face cache, which is deleted at the end.

Code of checkpoints is imported from this cache. If two processes shared it, one could not import what the other had
just written. Libraries of Hugging Face read these variables when they are imported, so `conftest.py` imports it first.
"""

import atexit
import os
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf_home_")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
