"""Every network at any size with golden weights, so that no checkpoint is needed."""

from collections.abc import Callable
from pathlib import Path

from engines.e2vid.graph import e2vid, firenet, hypere2vid
from engines.efnet.graph import efnet
from engines.efnet.weights import HIGHREV
from engines.nernet.graph import graph as nernet
from engines.pienet import weights as pienet_weights
from engines.pienet.graph import pienet
from engines.runtime.graph import Graph
from rtpipe.types import Resolution
from rtpipe.weights import store
from rtpipe.weights.learned import Properties
from tests.engines import e2vid_golden, efnet_golden, nernet_golden

Shared = Callable[[str], Path]
Make = Callable[[Shared, Resolution], Graph]


def _pienet(variant: str) -> Make:
    def make(shared: Shared, resolution: Resolution) -> Graph:
        rule = efnet_golden.rule(shared("networks/golden/weights.py"))
        tensors = rule.golden_state_dict(pienet_weights.shapes(variant))
        properties = Properties("pienet", variant, {})
        stored = store.Stored(Path("golden.safetensors"), tensors, properties, store.fingerprint(tensors))
        return pienet(stored, resolution)

    return make


NETWORKS: dict[str, Make] = {
    "efnet": lambda shared, size: efnet(efnet_golden.stored(shared), size),
    "efnet-nomask": lambda shared, size: efnet(efnet_golden.stored(shared, HIGHREV), size),
    "nernet": lambda shared, size: nernet(nernet_golden.stored(shared), size),
    "e2vid-bn": lambda shared, size: e2vid(e2vid_golden.stored(shared, "e2vid-bn"), size),
    "e2vid-up": lambda shared, size: e2vid(e2vid_golden.stored(shared, "e2vid-up"), size),
    "firenet": lambda shared, size: firenet(e2vid_golden.stored(shared, "firenet"), size),
    "hypere2vid": lambda shared, size: hypere2vid(e2vid_golden.stored(shared, "hyper"), size),
    "pienet-full": _pienet("full"),
    "pienet-lite": _pienet("lite"),
}
