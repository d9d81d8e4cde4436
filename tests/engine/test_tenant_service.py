from __future__ import annotations

from lepton_ai.engine.scheduling.tenant_service import TenantService


def test_a_counter_grows_with_tokens_and_outlives_a_pause() -> None:
    service = TenantService()
    service.begin("a")
    service.charge("a", 30)
    service.end("a")
    assert service.served("a") == 30
    service.begin("a")
    assert service.served("a") == 30


def test_who_comes_back_starts_at_the_least_of_the_active() -> None:
    service = TenantService()
    service.begin("a")
    service.begin("b")
    service.charge("a", 100)
    service.charge("b", 70)
    service.begin("c")
    assert service.served("c") == 70, "a pause saves nothing up"
    service.begin("c")
    service.charge("c", 5)
    service.end("c")
    service.end("b")
    service.begin("b")
    assert service.served("b") == 75


def test_names_that_have_gone_do_not_pile_up() -> None:
    service = TenantService()
    service.begin("stays")
    service.charge("stays", 1)
    for index in range(10_000):
        service.begin(f"t{index}")
        service.charge(f"t{index}", 9)
        service.end(f"t{index}")
    assert len(service._served) <= 4097
    assert service.served("stays") == 1 and service.served("t0") == 0 and service.served("t9999") > 0
