"""A service that pseudonymises: the shop uses its own ids, and none of them is on the disk."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from zhiyin.contracts import TrainingData
from zhiyin.domain import Vocabulary
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.access.pseudonyms import Pseudonyms
from zhiyin.serving.access.secret import Secrets
from zhiyin.serving.app import create_app
from zhiyin.serving.border import Border
from zhiyin.serving.settings import PrivacySettings, ServingSettings
from zhiyin.testing.tea_shop import tea_shop

PERSON, GONE, CITY = "ann.smith@example.com", "bob.jones@example.com", "Hangzhou-by-the-lake"


ASKED = {
    "secret": "v9Kq2mXw7Lr4Tz8Pb1Nc6Hd3Gf5Js0Ya-Ue",
    "pseudonymise": True,
    "personal_fields": ["city"],
}


def test_no_id_is_on_the_disk_and_histories_stay_whole(tmp_path: Path) -> None:
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    privacy = PrivacySettings.parse(ASKED, where="privacy")
    app = create_app(pipeline, f"sqlite:///{tmp_path}/store.db", ServingSettings(privacy=privacy))
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        for user_id in (PERSON, GONE):
            event = {"user_id": user_id, "item_id": "i3", "context": {"city": CITY, "device": "phone"}}
            assert client.post("/v1/events", json=event).status_code == 202
            client.put(f"/v1/users/{user_id}", json={"city": CITY, "size": 3})
            assert client.post("/v1/recommend", json={"user_id": user_id}).json()["known_user"] is True
        # A user whom the bundle knows by the plain id is found too.
        assert client.post("/v1/recommend", json={"user_id": "u3"}).json()["known_user"] is True
        exported = client.get(f"/v1/users/{PERSON}").json()
        assert exported["attributes"]["size"] == 3
        assert [event["context"]["device"] for event in exported["events"]] == ["phone"]
        assert CITY not in str(exported)
        receipt = client.delete(f"/v1/users/{GONE}").json()
        verified = client.post("/v1/receipts/verify", json={"receipt": receipt, "user_id": GONE}).json()
        assert verified == {"is_valid": True}
        assert client.post("/v1/recommend", json={"user_id": GONE}).json()["known_user"] is False
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"phone" in written
    for hidden in (PERSON, GONE, "ann.smith", CITY):
        assert hidden.encode() not in written


def test_people_of_a_bundle_that_learned_from_the_store_are_found_and_erased(tmp_path: Path) -> None:
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    names = Pseudonyms(Secrets(ASKED["secret"].encode()), "default")
    pipeline.users = Vocabulary(names.of_many(pipeline.users.ids.to_list()))
    privacy = PrivacySettings.parse(ASKED, where="privacy")
    app = create_app(pipeline, f"sqlite:///{tmp_path}/store.db", ServingSettings(privacy=privacy))
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        assert client.post("/v1/recommend", json={"user_id": "u3"}).json()["known_user"] is True
        assert client.get("/v1/users/u3").json()["trained_on"]
        client.delete("/v1/users/u3")
        assert client.post("/v1/recommend", json={"user_id": "u3"}).json()["known_user"] is False
        assert client.get("/v1/users/u3").status_code == 404


def test_everybody_of_a_bundle_is_named_by_themselves() -> None:
    """One plain name among pseudonyms, or the other way round, changes nobody else's."""
    border = Border(Secrets(ASKED["secret"].encode()), PrivacySettings.parse(ASKED, where="privacy"))
    known = border.people("default", ["ann", "bob"])
    assert border.people_of_bundle("default", [known[0], "bob"]) == known
    assert border.people_of_bundle("default", ["ann", "bob"]) == known
