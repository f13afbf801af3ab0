"""Enrolment tokens, and the exchange of one for a certificate."""

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field

from fleet_contract import enrolment as contract
from fleet_contract import limits
from fleet_server.api.deps import InFleet, Operator
from fleet_server.api.schema import Answer, Body, Word
from fleet_server.services import enrolment

router = APIRouter(tags=["enrolment"])


class TokenRequest(Body):
    device_id: str = Field(examples=["camera-1"])
    profile: str = Field(examples=["generic-x86-64"], description="a known hardware profile")
    task: str = Field(examples=["digits"])
    lifetime_s: int = Field(default=3600, ge=1, le=limits.MAX_TOKEN_LIFETIME_S)


class Invitation(Answer):
    """`token` is shown this once; give it to `edge-agent enrol`."""

    token: str
    device_id: str
    expires_at: datetime


class EnrolRequest(Body):
    token_id: Word
    secret: str = Field(max_length=limits.MAX_TOKEN_CHARS)
    csr_pem: str = Field(max_length=limits.MAX_CSR_BYTES)


class EnrolAnswer(Answer):
    """`root_base64` is 1.root.json, whose digest the token pins."""

    device_id: str
    fleet: str
    profile: str
    task: str
    certificate_pem: str
    ca_pem: str
    root_base64: str
    broker_url: str


@router.post("/enrolment-tokens", status_code=201, summary="Make a one-time token for one device id")
def create_token(body: TokenRequest, fleet: InFleet, who: Operator) -> Invitation:
    return enrolment.create_token(fleet, **body.model_dump(), by=who.id, now=fleet.now())


@router.post("/enrol", summary="Turn a one-time token and a CSR into a certificate")
def enrol(body: EnrolRequest, fleet: InFleet) -> EnrolAnswer:
    """401 for an unknown token, 409 for a used one, 410 for an expired one. A refused CSR leaves the token unused."""
    return enrolment.enrol(fleet, contract.EnrolRequest(**body.model_dump()), fleet.now())


@router.get("/ca.pem", summary="The fleet CA's certificate", response_class=Response)
def show_ca(fleet: InFleet) -> Response:
    return Response(fleet.authority.ca_pem(), media_type="application/x-pem-file")
