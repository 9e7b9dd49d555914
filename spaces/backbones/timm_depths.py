"""The depth of a timm model's parameters, as timm's own layer decay counts it."""

from __future__ import annotations

from torch import nn

from spaces.contract.depths import depths_by_number


def timm_depths(model: nn.Module) -> dict[str, int]:
    """Depth by parameter name: the model's own groups, see timm.optim.param_groups_layer_decay.

    A model without groups is counted by its numbered modules.
    """
    from timm.models import group_parameters

    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        return depths_by_number(name for name, _ in model.named_parameters())
    return dict(group_parameters(model, matcher(coarse=False), reverse=True))
