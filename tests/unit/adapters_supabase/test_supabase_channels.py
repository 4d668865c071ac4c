from __future__ import annotations

from adapters.supabase_channels import channels, filters
from monitoring.topics import parse_topics


def test_topics_of_one_kind_share_a_filter_and_everything_needs_none() -> None:
    asked = parse_topics(["devices.web-2", "devices.web-1", "categories.system", "metrics.container"])
    assert filters(asked) == ["category=eq.system", "device=in.(web-1,web-2)", "metric_type=eq.container"]
    assert filters(parse_topics(["devices.web-1", "devices.*"])) == [None]
    assert filters(parse_topics([])) == [None]


def test_values_with_separators_are_quoted() -> None:
    assert filters(parse_topics(["devices.a,b"])) == ['device=eq."a,b"']
    assert filters(parse_topics(['devices.a"\\', "devices.b c"])) == [r'device=in.("a\"\\","b c")']


def test_a_filter_has_no_more_values_than_realtime_takes() -> None:
    bound = filters(parse_topics([f"devices.d{n:03}" for n in range(250)]))
    assert [each.count(",") + 1 for each in bound if each] == [100, 100, 50]
    assert bound[0] is not None
    assert bound[0].startswith("device=in.(d000,d001,")


def test_beyond_the_filters_of_a_channel_everything_is_bound() -> None:
    assert len(filters(parse_topics([f"devices.d{n}" for n in range(1000)]))) == 10
    assert filters(parse_topics([f"devices.d{n}" for n in range(1001)])) == [None]


def test_a_few_devices_have_channels_of_their_own() -> None:
    assert channels(parse_topics(["devices.b", "devices.a"])) == ["device:a", "device:b"]
    assert channels(parse_topics([f"devices.d{n}" for n in range(21)])) == ["feed"]


def test_what_is_not_of_one_device_is_on_the_feed_s_channel() -> None:
    for topics in (["categories.system"], ["devices.a", "metrics.container"], ["devices.*"], []):
        assert channels(parse_topics(topics)) == ["feed"]
