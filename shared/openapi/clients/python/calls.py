"""The calls of a client that openapi-python-client makes. It prints what it is answered; TestForeignClients compares."""

import os
from typing import TypeVar

from api import AuthenticatedClient
from api.api.devices import get_device, list_devices, register, revoke, revoke_batch
from api.api.validate import validate, validate_batch
from api.models.decision import Decision
from api.models.decision_list import DecisionList
from api.models.device_body import DeviceBody
from api.models.device_list import DeviceList
from api.models.error_answer import ErrorAnswer
from api.models.metadata import Metadata
from api.models.register_body import RegisterBody
from api.models.registered import Registered
from api.models.revoke_batch_body import RevokeBatchBody
from api.models.revoke_batch_body_scope import RevokeBatchBodyScope
from api.models.revoked_batch import RevokedBatch
from api.models.revoked_device import RevokedDevice
from api.models.validate_batch_body import ValidateBatchBody
from api.types import UNSET, Unset

T = TypeVar("T")
api = AuthenticatedClient(
    base_url=os.environ["MACHINEID_BASE_URL"], token=os.environ["MACHINEID_ORG_KEY"], prefix="", auth_header_name="x-org-key"
)


def must(value: T | Unset | None) -> T:
    assert value is not None and not isinstance(value, Unset)
    return value


def yes(value: bool) -> str:
    return str(value).lower()


def take(device_id: str) -> None:
    metadata = Metadata.from_dict({"rank": 2})
    answer = register.sync_detailed(
        client=api, body=RegisterBody(device_id=device_id, name=device_id.upper(), metadata=metadata, ttl_seconds=3600)
    )
    match answer.parsed:
        case Registered() as r:
            lives = must(r.expires_at) - must(r.created_at)
            told = yes(must(must(r.propagation).confirmed) >= 0)
            rank = must(r.metadata)["rank"]
            print(f"register {device_id}: {r.status}, {r.devices_used} of {r.limit}, {r.name}, rank {rank}, lives {lives.seconds} s, told {told}")
        case ErrorAnswer() as e:
            print(f"register {device_id}: {answer.status_code.value} {e.error}, {must(e.devices_used)} of {must(e.limit)}, {must(e.plan_state)}")
        case None:
            raise AssertionError(answer)


def ask(device_id: str) -> None:
    decision = validate.sync(client=api, body=DeviceBody(device_id=device_id))
    assert isinstance(decision, Decision), decision
    print(f"validate {device_id}: {yes(decision.allowed)} {decision.code} {decision.error or 'no error'}")


for name in ("a", "b", "c", "d"):
    take(name)
ask("a")
revoked = revoke.sync(client=api, body=DeviceBody(device_id="a"))
assert isinstance(revoked, RevokedDevice), revoked
print(f"revoke a: {yes(revoked.revoked)}, changed {yes(revoked.changed)}")
ask("a")
ask("")

decisions = validate_batch.sync(client=api, body=ValidateBatchBody(device_ids=["a", "b", "nobody"]))
assert isinstance(decisions, DecisionList), decisions
for one in decisions.decisions:
    print(f"validate_batch {must(one.device_id)}: {yes(one.allowed)} {one.code}")
batch = revoke_batch.sync(client=api, body=RevokeBatchBody(device_ids=["b", "nobody"]))
assert isinstance(batch, RevokedBatch), batch
for item in must(batch.results):
    print(f"revoke_batch {must(item.device_id)}: {item.status}, changed {yes(item.changed)}")

cursor: str | Unset = UNSET
while True:
    page = list_devices.sync(client=api, limit=2, cursor=cursor)
    assert isinstance(page, DeviceList), page
    print("list: " + ", ".join(f"{d.device_id} {d.status} {yes(d.revoked_at is not None)}" for d in page.devices))
    cursor = page.next_cursor
    if not cursor:
        break

batch = revoke_batch.sync(client=api, body=RevokeBatchBody(scope=RevokeBatchBodyScope.ALL_ACTIVE))
assert isinstance(batch, RevokedBatch), batch
print(f"revoke_batch all: {batch.revoked_count}")
nobody = get_device.sync_detailed(client=api, device_id="nobody")
assert isinstance(nobody.parsed, ErrorAnswer), nobody.parsed
print(f"get nobody: {nobody.status_code.value} {nobody.parsed.error}")


# What does not fit is seen by mypy: each of these must be a fault.
def faults() -> None:
    ValidateBatchBody(device_ids=[7])  # type: ignore[list-item]
    RevokeBatchBody(scope="all")  # type: ignore[arg-type]
    RegisterBody(device_id="a", ttl_seconds="1")  # type: ignore[arg-type]
    DeviceBody()  # type: ignore[call-arg]
