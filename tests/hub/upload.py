"""Uploads a large and a small file with huggingface_hub: upload.py REPO"""

import sys

from huggingface_hub import CommitOperationAdd, HfApi

repo, api = sys.argv[1], HfApi()
api.create_repo(repo, exist_ok=True)
api.create_repo(repo, exist_ok=True)
operations = [
    CommitOperationAdd("weights.safetensors", bytes(range(250)) * 400),
    CommitOperationAdd("notes.txt", b"written by python\n"),
]
api.create_commit(repo, operations, commit_message="by python")
assert {"weights.safetensors", "notes.txt"} <= set(api.list_repo_files(repo))
