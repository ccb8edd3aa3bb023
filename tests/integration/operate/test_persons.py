"""
The person who acts by the command line, as the record keeps it.
"""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gcp_oncetask import Fail
from gcp_oncetask.cli import main
from gcp_oncetask.services import identity
from gcp_oncetask.services.identity import account
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.tasks import Service

OPS = "ops-sa@demo-local.iam.gserviceaccount.com"


def failed(cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, **config: object) -> Service:
    """
    A service with a failed task; the command line has its locker.
    """
    made = Service(cloud, **config).handle()
    made.act = lambda task, attempt: Fail("declined")
    monkeypatch.setattr(identity, "account", account)
    made.have_commands(monkeypatch)
    made.create("a")
    cloud.run_until_idle()
    return made


def test_op_22_account_is_proven_and_the_name_beside_it_is_claimed(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    facts = {
        "type": "service_account",
        "client_email": OPS,
        "private_key": pem,
        "token_uri": "http://127.0.0.1:1/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(facts))
    service = failed(oncetask_cloud, monkeypatch)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert main(["ack", service.path("a"), "--for", "4h", "--as", "ann"]) == 0
    assert main(["dismiss", service.path("a")]) == 0
    assert [(act.by, act.proven, act.claimed) for act in service.lock("a").acts] == [
        (OPS, True, "ann"),
        (OPS, True, None),
    ]


def test_op_23_act_of_an_unknown_account_is_refused_without_a_name(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    With ``--as`` it is done, and kept as claimed.
    """
    service = failed(oncetask_cloud, monkeypatch)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    before = service.stored("a")
    assert main(["dismiss", service.path("a")]) == 2
    assert "give --as" in capsys.readouterr().err
    assert main(["dismiss", "--reason", "failed", "--yes"]) == 2
    assert service.stored("a") == before
    assert main(["dismiss", service.path("a"), "--as", "ann"]) == 0
    [act] = service.lock("a").acts
    assert (act.by, act.proven, act.claimed) == ("ann", False, None)


def test_op_23_on_the_local_cloud_the_user_of_the_machine_acts(
    oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = failed(oncetask_cloud, monkeypatch, firestore_emulator="127.0.0.1:1")
    assert main(["dismiss", service.path("a")]) == 0
    [act] = service.lock("a").acts
    assert (act.by.partition("@")[0], act.proven) == (getpass.getuser(), False)
