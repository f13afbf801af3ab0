"""Windows of sketches, the choice of samples, and the counters that survive."""

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from edge_agent.errors import Fatal
from edge_agent.monitor import sampling, tally
from edge_agent.monitor.recorder import candidates_of
from edge_agent.monitor.sampling import Candidate, Sampler, choose
from edge_agent.monitor.window import WindowKeeper, columns_of
from edge_agent.ports import ActiveModel, Input
from fleet_contract import images, limits
from fleet_contract.answers import answer
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event, Sample, SketchWindow
from fleet_contract.order import SamplingCampaign
from fleet_contract.sketch import Feature, Grid, Sketcher, decode_reference
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import BEGIN, vector_input

CAMPAIGN = SamplingCampaign(id="drift-1", max_items=10, max_bytes=10_000)


def _model(**options) -> ActiveModel:
    bundle = Bundle(models.bundle(**options))
    return ActiveModel(bundle.sha256, bundle.manifest, decode_reference(bundle.read(bundle.manifest.reference)))


class TestWindows:
    def _add(self, keeper: WindowKeeper, model: ActiveModel, first: int, rows: int) -> list[SketchWindow]:
        batch = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        said = np.tile(np.array([0.75, 0.5], np.float32), (rows, 1))
        numbers = list(range(first, first + rows))
        return keeper.add(model, batch, said, numbers, [BEGIN + timedelta(seconds=n) for n in numbers])

    def test_a_window_closes_at_its_size_within_a_batch(self) -> None:
        keeper, model = WindowKeeper(), _model(window_inputs=10)
        assert self._add(keeper, model, 0, 8) == []
        first, second = self._add(keeper, model, 8, 14)
        assert [(w.first_input, w.inputs, w.sketch.rows) for w in (first, second)] == [(0, 10, 10), (10, 10, 10)]
        assert (first.start, first.end) == (BEGIN, BEGIN + timedelta(seconds=9))
        assert {first.bundle, second.bundle} == {model.sha256}

    def test_another_bundle_abandons_the_open_window(self) -> None:
        keeper = WindowKeeper()
        self._add(keeper, _model(window_inputs=10), 0, 8)
        newer = _model(window_inputs=10, version="2.0.0")
        assert self._add(keeper, newer, 8, 9) == []
        (window,) = self._add(keeper, newer, 17, 1)
        assert (window.bundle, window.first_input) == (newer.sha256, 8)

    def test_a_window_is_the_sketch_of_inputs_and_outputs(self) -> None:
        keeper, model = WindowKeeper(), _model(window_inputs=4)
        (window,) = self._add(keeper, model, 0, 4)
        sketcher = Sketcher(model.reference.grid)
        inputs = np.arange(8, dtype=np.float32).reshape(4, 2)
        outputs = np.tile(np.array([0.75, 0.5], np.float32), (4, 1))
        sketcher.add(np.hstack([inputs, outputs]))
        assert window.sketch == sketcher.sketch()

    def test_the_grid_names_the_features_and_their_order(self) -> None:
        grid = Grid(
            features=[Feature(name="output.entropy", role="output", low=0, high=1), Feature(name="b", role="input", low=0, high=1)],
            bins=4,
        )
        assert columns_of(_model().manifest, grid).tolist() == [3, 1]


def _candidate(number: int, label: str = "a", margin: float = 0.5, size_bytes: int = 10) -> Candidate:
    return Candidate(str(number), BEGIN, "image/png", bytes(size_bytes), "sha", label, 0.9, margin)


class TestChoice:
    def test_every_predicted_class_gets_its_share(self) -> None:
        pool = [_candidate(n, "a") for n in range(50)] + [_candidate(100 + n, "b") for n in range(5)]
        labels = [candidate.label for candidate in choose(pool, CAMPAIGN)]
        assert (labels.count("a"), labels.count("b")) == (5, 5)

    def test_a_rare_class_leaves_its_share_to_the_others(self) -> None:
        pool = [_candidate(n, "a") for n in range(50)] + [_candidate(100, "b")]
        labels = [candidate.label for candidate in choose(pool, CAMPAIGN)]
        assert (labels.count("a"), labels.count("b")) == (9, 1)

    def test_half_are_the_least_sure(self) -> None:
        pool = [_candidate(n, margin=n / 100) for n in range(100)]
        chosen = {int(candidate.id) for candidate in choose(pool, CAMPAIGN)}
        assert {0, 1, 2, 3} <= chosen
        assert max(chosen) > 10

    @pytest.mark.parametrize(
        ("sizes", "chosen"),
        [
            pytest.param([10] * 30, 10, id="items bound"),
            pytest.param([2_500] * 30, 4, id="bytes bound"),
            pytest.param([20_000] * 5, 0, id="nothing fits"),
            pytest.param([20_000, 10, 10], 2, id="what does not fit is passed over"),
            pytest.param([], 0, id="nothing to choose from"),
        ],
    )
    def test_the_budget_holds(self, sizes: list[int], chosen: int) -> None:
        picked = choose([_candidate(n, size_bytes=size) for n, size in enumerate(sizes)], CAMPAIGN)
        assert len(picked) == chosen
        assert sum(len(candidate.data) for candidate in picked) <= CAMPAIGN.max_bytes

    def test_an_input_is_chosen_once(self) -> None:
        assert len(choose([_candidate(1), _candidate(1), _candidate(2)], CAMPAIGN)) == 2

    def test_the_choice_is_repeatable_and_differs_by_campaign(self) -> None:
        pool = [_candidate(n, margin=0.5) for n in range(200)]
        other = SamplingCampaign(id="drift-2", max_items=10, max_bytes=10_000)
        assert choose(pool, CAMPAIGN) == choose(pool[::-1], CAMPAIGN)
        assert choose(pool, CAMPAIGN) != choose(pool, other)

    def test_records_end_with_the_word_that_it_is_over(self) -> None:
        *samples, done = sampling.records_of(CAMPAIGN, [_candidate(1), _candidate(2)], 3, BEGIN)
        assert [(type(s), s.campaign, s.input_id) for s in samples] == [(Sample, "drift-1", "1"), (Sample, "drift-1", "2")]
        assert done == Event(at=BEGIN, kind="sampling.done", detail={"campaign": "drift-1", "items": 2, "bytes": 20, "too_large": 3})


class TestSampler:
    """Windows of 5 and an alarm after 2 of them: 10 recent inputs are kept."""

    def _sampler(self) -> tuple[Sampler, ActiveModel]:
        return Sampler(idle_s=10, patience_s=60), _model(window_inputs=5)

    def _feed(self, sampler: Sampler, model: ActiveModel, first: int, rows: int, now_s: float = 0.0) -> None:
        sampler.add(model, [_candidate(n) for n in range(first, first + rows)], now_s)

    @pytest.mark.parametrize(
        ("before", "after", "silence_s", "exhausted", "chosen"),
        [
            pytest.param(0, 19, 0, False, None, id="not yet"),
            pytest.param(0, 20, 0, False, 10, id="twice the wanted came after the order"),
            pytest.param(10, 19, 0, False, None, id="nearly three times at hand"),
            pytest.param(50, 10, 0, False, None, id="what is older than the alarm does not count"),
            pytest.param(10, 0, 9, False, None, id="a short silence"),
            pytest.param(10, 0, 10, False, 10, id="a silence, and as many as wanted"),
            pytest.param(4, 0, 59, False, None, id="a silence, and too few"),
            pytest.param(4, 1, 60, False, 5, id="a long silence, and too few"),
            pytest.param(3, 0, 0, True, 3, id="an exhausted source"),
            pytest.param(0, 0, 1_000, True, None, id="nothing ever came"),
        ],
    )
    def test_when_it_chooses(self, before: int, after: int, silence_s: float, exhausted: bool, chosen: int | None) -> None:
        sampler, model = self._sampler()
        self._feed(sampler, model, 0, before)
        sampler.begin(CAMPAIGN, 0.0)
        if after:
            self._feed(sampler, model, before, after)
        picked = sampler.due(silence_s, exhausted)
        assert (picked if picked is None else len(picked)) == chosen

    def test_the_candidates_are_the_newest_before_the_order_and_all_after(self) -> None:
        sampler, model = self._sampler()
        self._feed(sampler, model, 0, 40)
        sampler.begin(SamplingCampaign(id="all", max_items=100, max_bytes=10**6), 0.0)
        self._feed(sampler, model, 40, 30)
        assert {int(c.id) for c in sampler.due(60.0, False)} == {*range(30, 70)}

    def test_without_a_campaign_nothing_is_due(self) -> None:
        sampler, model = self._sampler()
        self._feed(sampler, model, 0, 40)
        assert sampler.due(1_000.0, True) is None

    def test_what_another_bundle_answered_is_no_candidate(self) -> None:
        sampler, model = self._sampler()
        sampler.begin(CAMPAIGN, 0.0)
        self._feed(sampler, model, 0, 15)
        self._feed(sampler, _model(window_inputs=5, version="2.0.0"), 15, 6)
        assert {int(c.id) for c in sampler.due(60.0, False)} == {*range(15, 21)}

    def test_what_fits_no_sample_is_counted(self) -> None:
        sampler, model = self._sampler()
        sampler.begin(CAMPAIGN, 0.0)
        sampler.add(model, [_candidate(1, size_bytes=limits.MAX_SAMPLE_BYTES + 1), _candidate(2)], 0.0)
        assert [c.id for c in sampler.due(60.0, False)] == ["2"]
        assert sampler.too_large == 1


class TestPictures:
    """What was not acquired as a picture of a sample's size is one only if it is chosen."""

    def _sampled(self, sampler: Sampler, values: np.ndarray, size: int = 8) -> list[Candidate]:
        spec = msgspec.structs.replace(models.IMAGE, height=size, width=size)
        model = ActiveModel("sha", msgspec.structs.replace(_model().manifest, input=spec), _model().reference)
        outputs = {"logits": np.array([[0, 1]], np.float32)}
        sampler.begin(CAMPAIGN, 0.0)
        taken = Input("1", BEGIN, None, images.PNG, b"", values)
        sampler.add(model, candidates_of(model, answer(model.manifest, {}, outputs), [taken]), 0.0)
        return sampler.due(60.0, False) or []

    def test_it_is_the_picture_that_the_model_saw(self) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 8), np.uint8)
        (chosen,) = self._sampled(Sampler(idle_s=10, patience_s=60), pixels)
        assert chosen.media_type == images.PNG
        np.testing.assert_array_equal(images.decode(chosen.data, models.IMAGE), pixels)

    def test_one_that_stays_too_large_is_counted(self) -> None:
        sampler = Sampler(idle_s=10, patience_s=60)
        noise = np.random.default_rng(1).integers(0, 256, (1, 600, 600), np.uint8)
        assert self._sampled(sampler, noise, 600) == []
        assert sampler.too_large == 1


def test_a_candidate_carries_label_probability_and_margin() -> None:
    model = _model()
    outputs = {"logits": np.log(np.array([[0.2, 0.8], [0.9, 0.1]], np.float32))}
    first, second = candidates_of(model, answer(model.manifest, {}, outputs), [vector_input(1), vector_input(2)])
    assert (first.label, second.label) == ("yes", "no")
    assert (first.value, first.margin) == pytest.approx((0.8, 0.6), abs=1e-5)
    assert (second.value, second.margin) == pytest.approx((0.9, 0.8), abs=1e-5)


class TestTally:
    def test_refusals_are_counted_for_ever_and_told_once(self) -> None:
        counted = tally.Tally().plus(16, {"bad-row": 2}).plus(16, {"not-finite": 1})
        assert (counted.inputs, counted.refused) == (32, {"bad-row": 2, "not-finite": 1})
        assert counted.unreported == counted.refused
        assert (counted.reported().unreported, counted.reported().refused) == ({}, counted.refused)

    def test_a_mark_keeps_all_of_it(self) -> None:
        counted = tally.Tally().plus(3, {"bad-row": 1})
        assert tally.from_mark(tally.to_mark(counted)) == counted
        assert tally.from_mark(None) == tally.Tally()

    def test_a_damaged_mark_is_fatal(self) -> None:
        with pytest.raises(Fatal, match="damaged"):
            tally.from_mark("{")
