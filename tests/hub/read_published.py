"""Reads a repository that Atelier published, with huggingface_hub: read_published.py REPO FOLDER"""

import pathlib
import sys

from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download

repo, folder = sys.argv[1], pathlib.Path(sys.argv[2])
api = HfApi()
assert api.whoami()["name"] == "ada"
info = api.model_info(repo)
assert info.private and info.sha

weights = hf_hub_download(repo, "pytorch_lora_weights.safetensors")
assert pathlib.Path(weights).read_bytes() == (folder / "pytorch_lora_weights.safetensors").read_bytes()

snapshot = pathlib.Path(snapshot_download(repo))
assert (snapshot / "images/01.png").read_bytes() == (folder / "samples/step-000200-00.png").read_bytes()
assert (snapshot / "images/01-base.png").read_bytes() == (folder / "samples/step-000000-00.png").read_bytes()

card = ModelCard.load(snapshot / "README.md")
data = card.data.to_dict()
assert data["license"] == "apache-2.0" and data["library_name"] == "diffusers" and data["pipeline_tag"] == "text-to-image", data
assert data["instance_prompt"] == "impressionist painting" and "template:sd-lora" in data["tags"], data
assert "base_model" not in data, "flux-mini is not on the Hub"
[widget] = data["widget"]
assert widget["text"] == 'a lake: "dusk", impressionist painting', widget
assert (snapshot / widget["output"]["url"]).is_file()
assert "<Gallery />" in card.text and f'load_lora_weights("{repo}"' in card.text

tree = {entry.path: entry for entry in api.list_repo_tree(repo, recursive=True)}
assert tree["pytorch_lora_weights.safetensors"].lfs.size == pathlib.Path(weights).stat().st_size
