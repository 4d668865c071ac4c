-- Where each stream stood some time ago.
--
-- A client that comes from a server without ids has no cursor. What it was given last it recognises by what it says, for
-- about a minute; all that is older it has, or never wanted. So it begins here, and does not read hours of history.

create function public.cf_positions_back(p_topics text[], p_seconds double precision) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(pg_catalog.jsonb_object_agg(h.stream, pg_catalog.jsonb_build_array(
    coalesce(before.epoch, retained.epoch, h.epoch), coalesce(before.seq, retained.seq - 1, h.seq))), '{}')
  from public.cf_stream_heads h
  left join lateral (
    select e.epoch, e.seq from public.cf_events e
    where e.stream = h.stream
      and e.recorded_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => p_seconds)
    order by e.epoch desc, e.seq desc limit 1) as before on true
  left join lateral (
    select e.epoch, e.seq from public.cf_events e
    where e.stream = h.stream and before.epoch is null order by e.epoch, e.seq limit 1) as retained on true
  where public.cf_selects(p_topics, h.device, h.category, h.metric_type)
$$;
comment on function public.cf_positions_back(text[], double precision) is
  'Where the streams of the topics stood so many seconds ago, {stream: [epoch, seq]}: at their last retained event from
before, else before their first one, else, where none is retained, at their head.';
