-- Analytics: rates, percentiles, top-N and availability, each per interval, from the level of history that fits; and the
-- changes of status that availability is made of, which outlive the feed. docs/query.md.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

-- Changes of status ------------------------------------------------------------------------------------------------------

create table public.cf_status_changes (
  device text not null,
  item text not null default '',
  at timestamptz not null,
  status text not null,
  up boolean,
  was_up boolean,
  primary key (device, item, at)
);
comment on table public.cf_status_changes is
  'Changes of status of devices (item is empty) and of their containers (item is the name), for 400 days, at most 10,000 of
each. up is null when nobody knows, or when it is there no more.';

create function public.cf_status_up(p_status text) returns boolean
language sql immutable set search_path = '' as $$
  select case when p_status in ('up', 'degraded') then true when p_status in ('down', 'unreachable') then false end
$$;

create function public.cf_container_up(p_container jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select case when pg_catalog.jsonb_typeof(p_container) = 'object' then
    p_container -> 'running' = 'true' and p_container ->> 'health' is distinct from 'unhealthy' end
$$;

create function public.cf_keep_status_changes() returns trigger
language plpgsql set search_path = '' as $$
begin
  if not exists (select from inserted where kind in ('device_status_changed', 'container_status_changed')) then
    return null;
  end if;
  insert into public.cf_status_changes (device, item, at, status, up, was_up)
  select distinct on (device, item, at) device, item, at, status, up, was_up from (
    select device, '' as item, occurred_at as at, pg_catalog.left(coalesce(payload ->> 'new_status', 'unknown'), 100) as status,
      public.cf_status_up(payload ->> 'new_status') as up, public.cf_status_up(payload ->> 'old_status') as was_up, epoch, seq
    from inserted where kind = 'device_status_changed' and category = 'system'
    union all
    select device, payload #>> '{container,name}', occurred_at,
      pg_catalog.left(coalesce(payload #>> '{current,status}', 'removed'), 100), public.cf_container_up(payload -> 'current'),
      public.cf_container_up(payload -> 'previous'), epoch, seq
    from inserted where kind = 'container_status_changed' and pg_catalog.length(payload #>> '{container,name}') between 1 and 300
  ) as changed(device, item, at, status, up, was_up, epoch, seq)
  order by device, item, at, epoch desc, seq desc
  on conflict (device, item, at) do update set status = excluded.status, up = excluded.up;

  delete from public.cf_status_changes c
  using (
    select distinct device, case kind when 'device_status_changed' then '' else payload #>> '{container,name}' end as item
    from inserted where kind in ('device_status_changed', 'container_status_changed')) as b
  where c.device = b.device and c.item = b.item and c.at <= greatest(pg_catalog.now() - interval '400 days', (
    select o.at from public.cf_status_changes o where o.device = b.device and o.item = b.item
    order by o.at desc offset 10000 limit 1));
  return null;
end $$;

create trigger cf_keep_status_changes after insert on public.cf_events
referencing new table as inserted for each statement execute function public.cf_keep_status_changes();

alter table public.cf_status_changes enable row level security;
revoke all on public.cf_status_changes from anon, authenticated;
grant select, insert, update, delete on public.cf_status_changes to service_role;
grant select on public.cf_status_changes to authenticated;
create policy cf_readers on public.cf_status_changes for select to authenticated using ((select public.cf_is_reader()));

-- Levels and points: what cf_series was made of, for whoever needs a number's history ----------------------------------------

create function public.cf_level_for(p_from timestamptz, p_seconds double precision) returns public.cf_levels
language sql stable set search_path = '' as $$
  -- The coarsest level whose buckets are no longer than that, of those that reach back that far; else the one that does.
  select l from public.cf_levels l where p_from >= pg_catalog.now() - l.keep or l.level = 1440
  order by l.level * 60 > p_seconds, case when l.level * 60 > p_seconds then l.level else -l.level end limit 1
$$;

create function public.cf_points(
  p_stream text, p_field text, p_level int, p_from timestamptz, p_to timestamptz
) returns table (at timestamptz, n bigint, total double precision, low double precision, high double precision)
language plpgsql stable rows 1000 set search_path = '' as $$
#variable_conflict use_column
declare
  v_metric public.cf_metrics;
  v_selector jsonpath;
  v_chunk interval := (select l.chunk from public.cf_levels l where l.level = p_level);
  v_hours timestamptz[];
begin
  select * into v_metric from public.cf_metrics m where m.stream = p_stream and m.path = p_field;
  v_selector := coalesce(v_metric.selector, (
    select leaf.selector::jsonpath from public.cf_stream_latest l cross join lateral public.cf_leaves(l.payload) as leaf
    where l.stream = p_stream and leaf.path = p_field limit 1));
  -- Hours that no roll-up has yet, or not whole, are read from their samples.
  v_hours := array(
    select hour from public.cf_rollup_pending
    where stream = p_stream and hour > p_from - interval '1 hour' and hour < p_to
      and hour >= (select raw_from::timestamp at time zone 'UTC' from public.cf_storage));
  return query
  with rolled as (
    select r.level, r.chunk + pg_catalog.make_interval(mins => b.place * r.level) as at, b.n, b.total, b.low, b.high
    from public.cf_rollups r
    cross join unnest(r.places, r.counts, r.sums, r.lows, r.highs) as b(place, n, total, low, high)
    where r.level = p_level and r.metric = v_metric.id and r.chunk > p_from - v_chunk and r.chunk < p_to
  ), hourly as (
    -- A day with such an hour is put together from its other hours.
    select r.chunk as day, r.chunk + pg_catalog.make_interval(mins => b.place * 60) as at, b.n, b.total, b.low, b.high
    from public.cf_rollups r
    cross join unnest(r.places, r.counts, r.sums, r.lows, r.highs) as b(place, n, total, low, high)
    where p_level = 1440 and r.level = 60 and r.metric = v_metric.id
      and r.chunk = any (array(select distinct public.cf_bin('1 day', hour) from pg_catalog.unnest(v_hours) as hour))
  ), sampled as (
    select s.sampled_at as at, (pg_catalog.jsonb_path_query_first(s.metrics, v_selector) #>> '{}')::double precision as value
    from public.cf_samples s
    where p_level = 0 and s.stream = p_stream and s.sampled_at >= p_from and s.sampled_at < p_to
    union all
    select s.sampled_at, (pg_catalog.jsonb_path_query_first(s.metrics, v_selector) #>> '{}')::double precision
    from pg_catalog.unnest(v_hours) as hour
    join public.cf_samples s on s.stream = p_stream and s.sampled_at >= hour and s.sampled_at < hour + interval '1 hour'
    where p_level > 0
  )
  select at, n::bigint, total, low, high from rolled
  where case level when 1440 then at <> all (array(select day from hourly)) and
      at <> all (array(select public.cf_bin('1 day', hour) from pg_catalog.unnest(v_hours) as hour))
    else public.cf_bin('1 hour', at) <> all (v_hours) end
  union all
  select at, n::bigint, total, low, high from hourly where at <> all (v_hours)
  union all
  select at, 1::bigint, value, value, value from sampled where value is not null;
end $$;
comment on function public.cf_points(text, text, int, timestamptz, timestamptz) is
  'What there is of a number of a stream: buckets of a level, and samples where no roll-up has them yet; in no order, and
with buckets that begin before p_from.';

create or replace function public.cf_series(
  p_stream text, p_field text, p_from timestamptz, p_to timestamptz, p_points int default 300
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_seconds double precision := extract(epoch from p_to - p_from) / p_points;
  v_level public.cf_levels;
  v_step interval;
  v_points jsonb;
begin
  if p_to <= p_from or p_points not between 1 and 10000 then
    raise exception 'no such range' using errcode = '22023', hint = 'from is before to, and points from 1 to 10000.';
  end if;
  v_level := public.cf_level_for(p_from, v_seconds);
  v_step := pg_catalog.make_interval(secs => greatest(1, case v_level.level when 0 then pg_catalog.ceil(v_seconds)
    else pg_catalog.ceil(v_seconds / 60 / v_level.level) * 60 * v_level.level end));
  with stepped as (
    select public.cf_bin(v_step, at) as at, sum(n) as n, sum(total) as total, min(low) as low, max(high) as high
    from public.cf_points(p_stream, p_field, v_level.level, p_from, p_to)
    where at >= public.cf_bin(v_step, p_from) and at < p_to group by 1
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
    extract(epoch from at), total / n, low, high, n) order by at), '[]') into v_points from stepped;
  return pg_catalog.jsonb_build_object('stream', p_stream, 'field', p_field, 'level', v_level.name,
    'step_seconds', extract(epoch from v_step), 'points', v_points);
end $$;

create function public.cf_check_intervals(p_from timestamptz, p_to timestamptz, p_step interval, p_most int) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if p_to <= p_from or p_step < interval '1 second'
    or extract(epoch from p_to - p_from) / extract(epoch from p_step) > p_most
  then
    raise exception 'no such intervals' using errcode = '22023',
      hint = pg_catalog.format('from is before to, an interval is a second or longer, and there are %s at most.', p_most);
  end if;
end $$;

-- Rates --------------------------------------------------------------------------------------------------------------------

create function public.cf_rates(p_stream text, p_field text, p_from timestamptz, p_to timestamptz, p_step interval)
returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_level public.cf_levels := public.cf_level_for(p_from, extract(epoch from p_step) / 4);
  v_intervals jsonb;
begin
  perform public.cf_check_intervals(p_from, p_to, p_step, 1000);
  -- A counter only rises; where it is lower than before it began anew at 0. Within a bucket it rose from low to high.
  with ordered as (
    select at, low, high, lag(at) over o as before, lag(high) over o as was
    from public.cf_points(p_stream, p_field, v_level.level,
      p_from - greatest(p_step, pg_catalog.make_interval(mins => v_level.level)), p_to)
    window o as (order by at)
  ), risen as (
    select at, extract(epoch from at - before) as seconds,
      high - low + case when low >= was then low - was else low end as increase
    from ordered where before is not null and at > before
  ), stepped as (
    select public.cf_bin(p_step, at) as at, sum(increase) as increase, sum(seconds) as seconds
    from risen where at >= public.cf_bin(p_step, p_from) and at < p_to group by 1
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
    extract(epoch from at), increase / seconds, increase) order by at), '[]') into v_intervals from stepped;
  return pg_catalog.jsonb_build_object('stream', p_stream, 'field', p_field, 'level', v_level.name,
    'interval_seconds', extract(epoch from p_step), 'intervals', v_intervals);
end $$;
comment on function public.cf_rates(text, text, timestamptz, timestamptz, interval) is
  'How fast a counter of a stream rose: intervals of [begin, per second, increase]. Over time without samples the rise is
spread evenly, and told in the interval in which it was seen.';

create function public.cf_event_rates(
  p_topics text[], p_from timestamptz, p_to timestamptz, p_step interval, p_by text default 'category', p_most int default 20
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_all boolean := 'global' = any (p_topics);
  v_streams text[];
  v_answer jsonb;
begin
  perform public.cf_check_intervals(p_from, p_to, p_step, 1000);
  if not v_all then
    v_streams := array(
      select stream from public.cf_stream_heads where public.cf_selects(p_topics, device, category, metric_type));
  end if;
  with counted as (
    select public.cf_bin(p_step, occurred_at) as at,
      case p_by when 'device' then device when 'category' then category when 'kind' then kind else stream end as name,
      count(*) as n
    from public.cf_events
    where occurred_at >= p_from and occurred_at < p_to and (v_all or stream = any (v_streams)) group by 1, 2
  ), named as (
    select name, sum(n) as total from counted group by 1 order by 2 desc, 1 limit p_most
  ), listed as (
    select name, total, (
      select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
        extract(epoch from c.at), c.n / extract(epoch from p_step), c.n) order by c.at)
      from counted c where c.name = named.name) as intervals
    from named
  )
  select pg_catalog.jsonb_build_object('by', p_by, 'interval_seconds', extract(epoch from p_step),
    'since', (select min(occurred_at) from public.cf_events),
    'total', (select coalesce(sum(n), 0) from counted),
    'rates', coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', name, 'total', total, 'intervals', intervals) order by total desc, name) from listed), '[]')) into v_answer;
  return v_answer;
end $$;
comment on function public.cf_event_rates(text[], timestamptz, timestamptz, interval, text, int) is
  'How many events there were, by stream, device, category or kind, of the feed, which is kept for hours: since says from
when on. Intervals are [begin, per second, events]; those without an event are not there.';

-- Percentiles --------------------------------------------------------------------------------------------------------------

create function public.cf_percentiles(
  p_stream text, p_field text, p_from timestamptz, p_to timestamptz, p_step interval,
  p_at double precision[] default array[50, 90, 95, 99]
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  -- Samples for a day and an hour, then the means of minutes, and so on: some 1,500 to 50,000 values.
  v_level public.cf_levels := public.cf_level_for(p_from, extract(epoch from p_to - p_from) / 1500);
  v_step interval := greatest(p_step, pg_catalog.make_interval(mins => v_level.level));
  v_intervals jsonb;
begin
  perform public.cf_check_intervals(p_from, p_to, p_step, 1000);
  if exists (select from pg_catalog.unnest(p_at) as each where each is null or each not between 0 and 100)
    or pg_catalog.cardinality(p_at) not between 1 and 20
  then
    raise exception 'no such percentiles' using errcode = '22023', hint = 'p_at is 1 to 20 numbers from 0 to 100.';
  end if;
  with stepped as (
    select public.cf_bin(v_step, at) as at, sum(n) as n, min(low) as low, max(high) as high,
      pg_catalog.percentile_cont((select pg_catalog.array_agg(each / 100 order by place)
        from pg_catalog.unnest(p_at) with ordinality as asked(each, place))) within group (order by total / n) as percents
    from public.cf_points(p_stream, p_field, v_level.level, p_from, p_to)
    where at >= public.cf_bin(v_step, p_from) and at < p_to group by 1
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('begin', extract(epoch from at), 'samples', n,
    'low', low, 'high', high, 'values', pg_catalog.to_jsonb(percents)) order by at), '[]') into v_intervals from stepped;
  return pg_catalog.jsonb_build_object('stream', p_stream, 'field', p_field, 'level', v_level.name,
    'of', case v_level.level when 0 then 'samples' else 'means of ' || v_level.name end,
    'interval_seconds', extract(epoch from v_step), 'percentiles', p_at, 'intervals', v_intervals);
end $$;
comment on function public.cf_percentiles(text, text, timestamptz, timestamptz, interval, double precision[]) is
  'Percentiles of a number of a stream per interval: of its samples, or of the means of the buckets that stand for them
where the range is longer than a day and an hour ("of" says which); lowest, highest and count are of all samples always.';

-- Top-N ----------------------------------------------------------------------------------------------------------------------

create function public.cf_top(
  p_category text, p_field text, p_from timestamptz, p_to timestamptz, p_step interval, p_most int default 10,
  p_project uuid default null
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  c_probes constant int := 10000;  -- samples that are read of hours without a roll-up
  v_level public.cf_levels := public.cf_level_for(p_from, greatest(60, extract(epoch from p_step)));
  v_step interval;
  v_pattern text := '^' || pg_catalog.replace(
    pg_catalog.regexp_replace(p_field, '([][().*+?{}|^$\\])', '\\\1', 'g'), '\*', '[^]]*') || '$';
  v_targets jsonb;
  v_hours int;
  v_slot interval;
  v_answer jsonb;
begin
  perform public.cf_check_intervals(p_from, p_to, p_step, 200);
  if v_level.level = 0 then
    select * into v_level from public.cf_levels where level = 1;
  end if;
  v_step := greatest(p_step, pg_catalog.make_interval(mins => v_level.level));
  with known as (
    select m.stream, m.path, m.id, m.selector from public.cf_metrics m
    where m.stream like '%/' || pg_catalog.replace(p_category, '_', '\_') and m.path ~ v_pattern
  ), every as (
    select * from known
    union all
    select l.stream, leaf.path, null, leaf.selector::jsonpath
    from public.cf_stream_latest l cross join lateral public.cf_leaves(l.payload) as leaf
    where l.category = p_category and l.kind in ('metric_collected', 'containers_collected') and leaf.path ~ v_pattern
      and not exists (select from known k where k.stream = l.stream and k.path = leaf.path)
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
    'stream', stream, 'path', path, 'id', id, 'selector', selector)), '[]') into v_targets
  from every
  where p_project is null or pg_catalog.split_part(stream, '/', 1) in (
    select device from public.cf_project_members where project = p_project);
  select count(distinct hour) into v_hours from public.cf_rollup_pending
  where hour > p_from - interval '1 hour' and hour < p_to
    and hour >= (select raw_from::timestamp at time zone 'UTC' from public.cf_storage);
  -- Of the hours that no roll-up has yet one sample a slot is looked at, so that many streams take no longer than few.
  v_slot := greatest(interval '1 minute', least(interval '1 hour', pg_catalog.make_interval(mins => pg_catalog.ceil(
    60.0 * v_hours * pg_catalog.jsonb_array_length(v_targets) / c_probes)::int)));
  with target as materialized (
    select * from pg_catalog.jsonb_to_recordset(v_targets) as t(stream text, path text, id int, selector text)
  ), pending as (
    select p.stream, p.hour from public.cf_rollup_pending p
    where p.hour > p_from - interval '1 hour' and p.hour < p_to
      and p.hour >= (select raw_from::timestamp at time zone 'UTC' from public.cf_storage)
      and p.stream in (select stream from target)
  ), slots as materialized (
    select pending.stream, slot as at, sample.metrics
    from pending cross join lateral pg_catalog.generate_series(
      pending.hour, pending.hour + interval '1 hour' - interval '1 second', v_slot) as slot
    cross join lateral (
      select s.metrics from public.cf_samples s
      where s.stream = pending.stream and s.sampled_at >= slot and s.sampled_at < slot + v_slot
        and s.sampled_at >= p_from and s.sampled_at < p_to
      order by s.sampled_at limit 1) as sample
  ), points as (
    select t.stream, t.path, r.chunk + pg_catalog.make_interval(mins => b.place * r.level) as at, b.total / b.n as mean,
      b.high, v_level.level * 60.0 as weight
    from target t
    join public.cf_rollups r on r.level = v_level.level and r.metric = t.id
      and r.chunk > p_from - v_level.chunk and r.chunk < p_to
    cross join unnest(r.places, r.counts, r.sums, r.highs) as b(place, n, total, high)
    where not exists (select from pending where pending.stream = t.stream
      and pending.hour = public.cf_bin('1 hour', r.chunk + pg_catalog.make_interval(mins => b.place * r.level)))
    union all
    select t.stream, t.path, slots.at, value, value, extract(epoch from v_slot)
    from target t join slots using (stream)
    cross join lateral (select (pg_catalog.jsonb_path_query_first(slots.metrics, t.selector::jsonpath) #>> '{}')
      ::double precision as value) as read
    where value is not null
  ), stepped as (
    select public.cf_bin(v_step, at) as at, stream, path, sum(mean * weight) / sum(weight) as mean, max(high) as high
    from points where at >= public.cf_bin(v_step, p_from) and at < p_to group by 1, 2, 3
  ), ranked as (
    select *, row_number() over (partition by at order by mean desc, stream, path) as rank from stepped
  ), listed as (
    select at, pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'stream', stream, 'field', path, 'mean', mean, 'high', high) order by rank) as top
    from ranked where rank <= p_most group by at
  )
  select pg_catalog.jsonb_build_object('category', p_category, 'field', p_field, 'level', v_level.name,
    'interval_seconds', extract(epoch from v_step), 'of', (select count(*) from target),
    'newest_from_one_sample_each_seconds', case when v_hours > 0 then extract(epoch from v_slot) end,
    'intervals', coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'begin', extract(epoch from at), 'top', top) order by at) from listed), '[]')) into v_answer;
  return v_answer;
end $$;
comment on function public.cf_top(text, text, timestamptz, timestamptz, interval, int, uuid) is
  'Which streams of a category have the highest means of a number, per interval. In p_field * stands for any name in
brackets: containers[*].cpu_percent. Hours without a roll-up are judged by one sample a minute or longer.';

-- Availability -----------------------------------------------------------------------------------------------------------------

create function public.cf_seconds(p_ranges tstzmultirange) returns double precision
language sql immutable set search_path = '' as $$
  select coalesce(sum(extract(epoch from upper(r) - lower(r))), 0)::double precision from unnest(p_ranges) as r
$$;

create function public.cf_watched(p_device text, p_level int, p_from timestamptz, p_to timestamptz)
returns tstzmultirange
language plpgsql stable set search_path = '' as $$
declare
  v_width interval := pg_catalog.make_interval(mins => p_level);
  v_until timestamptz := least(p_to, pg_catalog.now());
  v_usual double precision;
  v_watched tstzmultirange;
begin
  -- Without samples, as of an application that pushes none, there is nothing to tell silence by.
  if not exists (select from public.cf_metrics where stream in (p_device || '/system', p_device || '/containers'))
    and not exists (select from public.cf_rollup_pending where stream in (p_device || '/system', p_device || '/containers'))
  then
    return tstzmultirange(tstzrange(p_from, greatest(p_from, v_until)));
  end if;
    with metric as (
      (select id from public.cf_metrics where stream = p_device || '/system'
        order by path <> 'cpu_usage', id limit 2)
      union all
      (select id from public.cf_metrics where stream = p_device || '/containers' order by id limit 2)
    ), seen as (
      select r.chunk + pg_catalog.make_interval(mins => place * p_level) as at
      from public.cf_rollups r cross join unnest(r.places) as place
      where r.level = p_level and r.metric in (select id from metric)
        and r.chunk > p_from - (select chunk from public.cf_levels where level = p_level) and r.chunk < p_to
      union
      select public.cf_bin(v_width, s.sampled_at)
      from public.cf_rollup_pending p
      join public.cf_samples s on s.stream = p.stream and s.sampled_at >= p.hour and s.sampled_at < p.hour + interval '1 hour'
      where p.stream in (p_device || '/system', p_device || '/containers') and p.hour > p_from - interval '1 hour'
        and p.hour < p_to
    ), gaps as (
      select at, extract(epoch from at - lag(at) over (order by at)) as gap,
        extract(epoch from coalesce(lead(at) over (order by at), v_until) - at) as next
      from seen where at > p_from - interval '1 day' and at < v_until
    ), usual as (
      select greatest(extract(epoch from v_width), pg_catalog.percentile_cont(0.5) within group (order by gap)) as seconds
      from gaps
    )
    -- A sample speaks for the time until the next one, if that comes within one and a half of the usual time.
    select range_agg(tstzrange(at, at + pg_catalog.make_interval(
      secs => case when next <= 1.5 * seconds then next else least(next, seconds) end)))
    into v_watched from gaps cross join usual where next > 0;
  return coalesce(v_watched, '{}') * tstzmultirange(tstzrange(p_from, greatest(p_from, v_until)));
end $$;
comment on function public.cf_watched(text, int, timestamptz, timestamptz) is
  'When samples of a device came as they usually do, told by the buckets of a level. A device without samples is always watched.';

create function public.cf_availability(
  p_device text, p_item text, p_from timestamptz, p_to timestamptz, p_step interval
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_level int := (public.cf_level_for(p_from, greatest(60, extract(epoch from p_to - p_from) / 3000))).level;
  v_range tstzrange := tstzrange(p_from, greatest(p_from, least(p_to, pg_catalog.now())));
  v_first boolean;
  v_up tstzmultirange;
  v_down tstzmultirange;
  v_watched tstzmultirange;
  v_intervals jsonb;
  v_whole jsonb;
begin
  perform public.cf_check_intervals(p_from, p_to, p_step, 1000);
  -- As it was before the first change of the range: after the last one before it, else before the first one of all, else now.
  v_first := case
    when exists (select from public.cf_status_changes where device = p_device and item = p_item and at <= p_from)
      then (select up from public.cf_status_changes where device = p_device and item = p_item and at <= p_from
        order by at desc limit 1)
    when exists (select from public.cf_status_changes where device = p_device and item = p_item)
      then (select was_up from public.cf_status_changes where device = p_device and item = p_item order by at limit 1)
    when p_item = '' then (select public.cf_status_up(status) from public.cf_devices_latest where device = p_device)
    else (select running and health is distinct from 'unhealthy' from public.cf_containers_latest
      where device = p_device and name = p_item order by sampled_at desc limit 1) end;
  with told as (
    select p_from as at, v_first as up
    union all
    select at, up from public.cf_status_changes
    where device = p_device and item = p_item and at > p_from and at < p_to
  ), lasted as (
    select tstzrange(at, coalesce(lead(at) over (order by at), p_to)) as time, up from told
  )
  select coalesce(range_agg(time) filter (where up), '{}'), coalesce(range_agg(time) filter (where not up), '{}')
  into v_up, v_down from lasted;
  -- What is known to be down is down, watched or not; what was up is up while it is heard of.
  v_up := v_up * tstzmultirange(v_range);
  v_down := v_down * tstzmultirange(v_range);
  v_watched := public.cf_watched(p_device, greatest(v_level, 1), p_from, p_to);
  with interval_of as (
    select at, tstzmultirange(tstzrange(at, at + p_step) * v_range) as time
    from pg_catalog.generate_series(public.cf_bin(p_step, p_from), p_to - interval '1 microsecond', p_step) as at
  ), told as (
    select at, public.cf_seconds(time * v_up * v_watched) as up, public.cf_seconds(time * v_down) as down,
      public.cf_seconds(time * v_up - v_watched) as silent
    from interval_of where not isempty(time)
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(extract(epoch from at),
      up / nullif(up + down + silent, 0), up, down, silent) order by at), '[]'),
    pg_catalog.jsonb_build_object('availability', sum(up) / nullif(sum(up + down + silent), 0),
      'up_seconds', coalesce(sum(up), 0), 'down_seconds', coalesce(sum(down), 0), 'silent_seconds', coalesce(sum(silent), 0))
  into v_intervals, v_whole from told;
  return pg_catalog.jsonb_build_object('device', p_device, 'container', nullif(p_item, ''),
    'resolution_seconds', greatest(v_level, 1) * 60, 'changes', (
      select count(*) from public.cf_status_changes
      where device = p_device and item = p_item and at > p_from and at < p_to),
    'intervals', v_intervals) || v_whole;
end $$;
comment on function public.cf_availability(text, text, timestamptz, timestamptz, interval) is
  'How much of a range a device (p_item is empty) or a container was up: up / (up + down + silent), and the same per interval,
[begin, availability, up, down, silent seconds]. silent: it was up when it was last heard of, and no sample came. Time of
which nobody knows is in neither.';

revoke execute on function public.cf_keep_status_changes(), public.cf_status_up(text), public.cf_container_up(jsonb)
  from public, anon;
grant execute on function public.cf_status_up(text), public.cf_container_up(jsonb) to authenticated, service_role;

-- What the feed has kept of changes before this.
insert into public.cf_status_changes (device, item, at, status, up, was_up)
select distinct on (device, item, at) * from (
  select device, '' as item, occurred_at as at, left(coalesce(payload ->> 'new_status', 'unknown'), 100) as status,
    public.cf_status_up(payload ->> 'new_status') as up, public.cf_status_up(payload ->> 'old_status') as was_up
  from public.cf_events where kind = 'device_status_changed' and category = 'system'
  union all
  select device, payload #>> '{container,name}', occurred_at,
    left(coalesce(payload #>> '{current,status}', 'removed'), 100), public.cf_container_up(payload -> 'current'),
    public.cf_container_up(payload -> 'previous')
  from public.cf_events
  where kind = 'container_status_changed' and length(payload #>> '{container,name}') between 1 and 300
) as changed order by device, item, at;
