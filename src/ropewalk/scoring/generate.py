"""Real greedy decoding, for protocols that ask for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.models.patch import patched
from ropewalk.rope import Rotation
from ropewalk.scoring.foreign_errors import naming
from ropewalk.scoring.loop import require_known


@torch.inference_mode()
def generate(model: Any, ids: NDArray[np.int32], rotation: Rotation, new_tokens: int) -> NDArray[np.int32]:
    """Continue `ids` int32 `[T]` by up to `new_tokens` greedy tokens under one static rotation; int32 `[<= new]`."""
    device = model.get_output_embeddings().weight.device
    prompt = torch.from_numpy(ids.astype(np.int64))[None].to(device)
    require_known(model, ids)
    with patched(model, rotation), naming(model):
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            num_beams=1,
            max_new_tokens=new_tokens,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=0,
        )
    return out[0, prompt.shape[1] :].to(torch.int32).cpu().numpy()
