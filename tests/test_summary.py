import math

import pytest

from dawp.io.files import read_json, write_json
from dawp.metrics.summary import rows, summarise, table


def result(value, pesq=1.5, error=None, **more):
    def best(v, given):
        return {"value": v, "epoch": None if v is None else 10, "gain": None if v is None else v - given}

    return {
        "repetition": 0,
        "recording": "x.wav",
        "epochs_run": 20,
        "seconds": 1.0,
        "error": error,
        "restored": None,
        "blind": {},
        "baselines": {},
        "input": {"si_snr": 2.5, "psnr": 30.0, "pesq": None if pesq is None else 1.0},
        "best": {"si_snr": best(value, 2.5), "psnr": best(33.0, 30.0), "pesq": best(pesq, 1.0), **more},
    }


def test_mean_and_standard_deviation():
    si_snr = summarise([result(4.0), result(5.0), result(6.0)])["metrics"]["si_snr"]
    assert si_snr["best"] == {"mean": 5.0, "std": 1.0, "count": 3, "nan": 0}
    assert si_snr["gain"]["mean"] == 2.5
    assert si_snr["input"]["std"] == 0.0
    assert math.isnan(summarise([result(4.0)])["metrics"]["si_snr"]["best"]["std"])


def test_nan_is_counted_and_not_averaged():
    pesq = summarise([result(4.0, 2.0), result(5.0, None), result(6.0, math.nan)])["metrics"]["pesq"]["best"]
    assert (pesq["mean"], pesq["count"], pesq["nan"]) == (2.0, 1, 2)


def test_the_table_states_the_number_of_nan_clips():
    text = table(summarise([result(4.0, 2.0), result(5.0, None)]))
    (line,) = [line for line in text.splitlines() if "PESQ" in line]
    assert "1 of 2 NaN" in line


def test_the_table_of_one_clip():
    lines = table(summarise([result(4.0)])).splitlines()
    assert lines[0].split() == ["corrupted", "best", "gain", "epoch"]
    assert lines[1].split() == ["SI-SNR", "(dB)", "2.50", "4.00", "+1.50", "10"]
    assert {line.rindex(end) + len(end) for line, end in zip(lines, ["epoch", "10", "10", "10"], strict=False)} == {56}
    assert "oracle" in lines[-1]


def test_the_table_states_the_number_of_clips_and_of_diverged_fits():
    text = table(summarise([result(4.0), result(5.0, error="diverged")]))
    assert "+2.00 ± 0.71" in text
    assert "means over 2 repetitions" in text
    assert "1 of 2 fits diverged" in text


def at_best_pesq(si_snr, best=4.0):
    """Return a result with the SI-SNR of the output of the best PESQ; the corrupted clip has 2.5 dB."""
    one = result(best)
    one["best"]["pesq"]["si_snr"] = si_snr
    return one


def test_the_table_reports_the_best_pesq_of_nearly_silent_outputs():
    warning = "PESQ is best at an epoch where SI-SNR is far below the corrupted clip's"
    assert f"{warning}, at -17.50 dB: " in table(summarise([at_best_pesq(-17.5)]))
    several = [at_best_pesq(si_snr) for si_snr in (-17.5, -0.6, -0.4, 4.0, None)]
    assert f"{warning} in 2 of 5 repetitions: " in table(summarise(several))
    assert summarise(several)["metrics"]["pesq"]["far_below"] == {"count": 2, "mean": pytest.approx(-9.05)}
    slow = at_best_pesq(-17.5, best=-16.0)  # the best PESQ is close to the best SI-SNR
    for fine in (at_best_pesq(4.0), at_best_pesq(None), result(4.0), slow):
        assert warning not in table(summarise([fine]))


def test_a_fit_that_diverged_in_its_first_epoch_has_no_best_pesq():
    nothing = {**result(4.0), "best": {}, "error": "the loss is not finite at epoch 1"}
    summary = summarise([at_best_pesq(-17.5), nothing])
    assert summary["metrics"]["pesq"]["far_below"]["count"] == 1
    assert "1 of 2 fits diverged" in table(summary)


def test_the_table_is_the_same_from_a_file(tmp_path):
    """JSON has no NaN; missing values are null."""
    summary = summarise([result(4.0, None)])
    write_json(tmp_path / "summary.json", summary)
    assert table(read_json(tmp_path / "summary.json")) == table(summary)
    assert " - " in table(summary)  # a missing value


def test_rows_for_the_csv():
    header, lines = rows([result(4.0)])
    assert len(lines[0]) == len(header)
    assert dict(zip(header, lines[0], strict=True))["gain_si_snr"] == pytest.approx(1.5)


def judged(value, given, epoch=None):
    return {"epoch": epoch, "metrics": {"si_snr": {"value": value, "gain": value - given, "epoch": epoch}}}


def with_others(value, restored, baseline):
    return {
        **result(value),
        "restored": judged(restored, 2.5, 20),
        "baselines": {"wiener": judged(baseline, 2.5)},
    }


def test_the_restored_clip_and_the_baselines_have_rows():
    summary = summarise([with_others(6.0, 5.0, 3.0), with_others(6.0, 5.5, 4.0)])
    assert summary["restored"]["si_snr"]["best"]["mean"] == 5.25
    assert summary["baselines"]["wiener"]["si_snr"]["gain"]["mean"] == 1.0
    lines = [line.split() for line in table(summary).splitlines()]
    restored = lines.index("restored, without the clean clip".split())
    baseline = lines.index(["baseline", "wiener"])
    assert lines[restored + 1] == ["SI-SNR", "(dB)", "2.50", "5.25", "+2.75", "±", "0.35", "20"]
    assert lines[baseline + 1] == ["SI-SNR", "(dB)", "2.50", "3.50", "+1.00", "±", "0.71"]


def test_rows_for_the_csv_have_the_baselines():
    header, lines = rows([with_others(6.0, 5.0, 3.0)])
    row = dict(zip(header, lines[0], strict=True))
    assert (row["restored_si_snr"], row["wiener_si_snr"], row["wiener_gain_si_snr"]) == (5.0, 3.0, 0.5)


def test_a_repetition_without_a_clean_clip_has_no_summary():
    unjudged = {**result(4.0), "best": {}, "input": {}, "restored": {"epoch": 20, "metrics": {}}}
    assert table(summarise([unjudged])) == "no clean clip, so no metrics"


def test_the_share_of_the_oracle_gain_retained_by_a_blind_stop():
    results = [{**result(value), "blind": {"wmv": judged(kept, 2.5, 7)}} for value, kept in ((6.5, 5.5), (4.5, 4.5))]
    summary = summarise(results)
    assert summary["blind"]["wmv"]["si_snr"]["share"] == pytest.approx(2.5 / 3)
    assert "blind stop wmv: share of the oracle gain in SI-SNR (dB): 83 % (output)" in table(summary)
    lost = summarise([{**result(2.0), "blind": {"wmv": judged(1.0, 2.5, 7)}}])
    assert math.isnan(lost["blind"]["wmv"]["si_snr"]["share"])
    assert "blind stop" not in table(lost)


def test_the_share_covers_repetitions_with_both_stops():
    kept = {**result(12.5), "blind": {"wmv": judged(10.5, 2.5, 7)}}
    diverged = {**result(4.5, error="diverged"), "blind": {}}
    summary = summarise([kept, diverged])
    assert summary["blind"]["wmv"]["si_snr"]["share"] == pytest.approx(0.8)
    assert summary["blind"]["wmv"]["si_snr"]["best"]["nan"] == 1


def test_the_share_uses_a_metric_with_a_known_gain():
    """SI-SNR is undefined for gaps of zeros, so that there is no gain."""
    gap = {"value": 5.0, "epoch": 10, "gain": None}
    psnr = {"value": 36.0, "epoch": 10, "gain": 4.0}
    one = result(4.0, gap_si_snr=gap, gap_psnr=psnr)
    one["input"] |= {"gap_si_snr": None, "gap_psnr": 32.0}
    one["blind"] = {"wmv": {"epoch": 7, "metrics": {"gap_si_snr": gap, "gap_psnr": {**psnr, "gain": 3.0}}}}
    assert "share of the oracle gain in gap PSNR (dB): 75 % (output)" in table(summarise([one]))
