-- The same answers for less: functions of one expression that PostgreSQL puts in place of their call, and samples of hours that
-- no roll-up has yet, which are found by their index whatever the statistics say.

-- A function with a search_path of its own is called for each row (a microsecond); these name everything by its schema.
alter function public.cf_bin(interval, timestamptz) reset search_path;
alter function public.cf_selects(text[], text, text, text) reset search_path;

create or replace function public.cf_watched(p_device text, p_level int, p_from timestamptz, p_to timestamptz)
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
      cross join lateral (
        select sampled_at from public.cf_samples
        where stream = p.stream and sampled_at >= p.hour and sampled_at < p.hour + interval '1 hour' offset 0) as s
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

create or replace function public.cf_availability(
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
    select at, (select coalesce(sum(pg_catalog.date_part('epoch', upper(r) - lower(r))), 0)
        from pg_catalog.unnest(time * v_up * v_watched) as r) as up,
      (select coalesce(sum(pg_catalog.date_part('epoch', upper(r) - lower(r))), 0)
        from pg_catalog.unnest(time * v_down) as r) as down,
      (select coalesce(sum(pg_catalog.date_part('epoch', upper(r) - lower(r))), 0)
        from pg_catalog.unnest(time * v_up - v_watched) as r) as silent
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

drop function public.cf_seconds(tstzmultirange);
