"""From a drift finding to a job: when the samples are in, when the labels are enough, what the challenger is called. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

from fleet_contract import limits
from fleet_contract.manifest import RetrainPolicy, SamplingPolicy


class FindingState(StrEnum):
    OPEN = "open"
    SAMPLING = "sampling"
    LABELLING = "labelling"
    RETRAINING = "retraining"
    CLOSED = "closed"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"


MAX_ATTEMPTS = 2
"""A job whose process died is tried again so often in all; a refusal by its gates is final."""

_SUFFIX = re.compile(r"-r\d+$")


@dataclass(frozen=True)
class Campaign:
    """`announced` is how many samples the device said it sent (None: it has not finished); `lane_empty` whether it has since reported that
    nothing waits in its samples lane (some may have been dropped there, and counted)."""

    received: int
    labelled: int
    announced: int | None
    lane_empty: bool


def is_complete(campaign: Campaign, policy: SamplingPolicy) -> bool:
    """Will no further sample of this campaign come?"""
    if campaign.received >= policy.max_items:
        return True
    return campaign.announced is not None and (campaign.received >= campaign.announced or campaign.lane_empty)


def labels_wanted(campaign: Campaign, policy: RetrainPolicy) -> int:
    """As many as the policy asks for; a complete campaign cannot give more than it has."""
    return max(1, min(policy.min_labels, campaign.received))


def may_start(campaign: Campaign, policy: RetrainPolicy, labelled_before: int) -> bool:
    """Should a job start by itself for a finding whose campaign is complete? `labelled_before` is how many labels an earlier job, refused or
    failed, has already had: only new ones justify another."""
    enough = campaign.labelled >= labels_wanted(campaign, policy)
    return policy.automatic and enough and campaign.labelled > labelled_before


def challenger_version(champion: str, job: int) -> str:
    """`1.0` -> `1.0-r7`; `1.0-r7` -> `1.0-r9`: the version of the bundle that job makes."""
    suffix = f"-r{job}"
    return _SUFFIX.sub("", champion)[: limits.MAX_NAME_CHARS - len(suffix)].rstrip(".") + suffix
