-- The write path, and time series: history by stream and day, roll-ups that outlive it, and who keeps them in bounds.
-- docs/storage.md, docs/adr/0020, 0021.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

-- Rows that are written again and again: room in their pages, so that no index is touched ------------------------------

alter table public.cf_leases set (fillfactor = 50);
alter table public.cf_stream_heads set (fillfactor = 50);
alter table public.cf_stream_latest set (fillfactor = 50);
alter table public.cf_devices_latest set (fillfactor = 50);
alter table public.cf_containers_latest set (fillfactor = 70);

-- History: one row an event, as it is ----------------------------------------------------------------------------------

do $$
declare
  v_old text;
begin
  for v_old in select inhrelid::regclass::text from pg_inherits where inhparent = 'public.cf_samples'::regclass loop
    execute format('alter table %s rename to %I', v_old, 'cf_old' || substr(split_part(v_old, '.', -1), 3));
  end loop;
  alter table public.cf_samples rename to cf_old_samples;
end $$;

create table public.cf_samples (
  stream text collate "C" not null,
  sampled_at timestamptz not null,
  metrics jsonb not null,
  primary key (stream, sampled_at)
) partition by range (sampled_at);
comment on table public.cf_samples is
  'What was sampled: the payloads of metric_collected and containers_collected, for days. Partitions by day (UTC):
cf_samples_YYYYMMDD. What is older is in cf_rollups.';

do $$
begin
  -- Half the time of pglz for about the same size, where the server was built with it.
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    alter table public.cf_samples alter column metrics set compression lz4;
    alter table public.cf_events alter column payload set compression lz4;
    alter table public.cf_stream_latest alter column payload set compression lz4;
  end if;
end $$;

create or replace function public.cf_make_partitions(p_days date[]) returns int
language plpgsql security definer set search_path = '' as $$
declare
  v_day date;
  v_made int := 0;
begin
  -- One maker at a time; the others find the partitions there. Whoever wants this lock takes it before it touches
  -- cf_samples, so that nobody waits for it while holding what its holder wants.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('cf_samples partitions'));
  foreach v_day in array p_days loop
    v_made := v_made + public.cf_make_partition('cf_samples', v_day, v_day + 1);
  end loop;
  return v_made;
end $$;

create function public.cf_make_partition(p_table text, p_from date, p_to date) returns int
language plpgsql security definer set search_path = '' as $$
declare
  v_name text := p_table || '_' || pg_catalog.to_char(p_from, 'YYYYMMDD');
begin
  -- Asked of the catalogue itself: to_regclass may still answer from before another maker's commit.
  if exists (
    select from pg_catalog.pg_class where relname = v_name and relnamespace = 'public'::pg_catalog.regnamespace) then
    return 0;
  end if;
  -- Made beside the table and attached: unlike "create table ... partition of", that blocks no reader and no writer.
  execute pg_catalog.format(
    'create table public.%I (like public.%I including storage including compression)', v_name, p_table);
  execute pg_catalog.format('alter table public.%I enable row level security', v_name);
  execute pg_catalog.format('revoke all on public.%I from anon, authenticated', v_name);
  execute pg_catalog.format(
    'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
    p_table, v_name, p_from::text || ' 00:00:00+00', p_to::text || ' 00:00:00+00');
  return 1;
end $$;
comment on function public.cf_make_partition(text, date, date) is
  'Make the partition TABLE_YYYYMMDD from one day to before another (UTC), unless it is there; returns how many were made.';

-- Writing ----------------------------------------------------------------------------------------------------------------

drop trigger cf_project_applications on public.cf_events;
drop function public.cf_project_applications();
drop function public.cf_record_samples(public.cf_events[], date[]);

create function public.cf_append_rows(
  p_owner uuid, p_streams text[], p_epochs bigint[], p_seqs bigint[], p_ids uuid[], p_metric_types text[],
  p_kinds text[], p_times timestamptz[], p_payloads jsonb[], p_ttl_seconds int default 30
) returns int
language plpgsql set search_path = '' as $$
declare
  c_sampled constant text[] := array['metric_collected', 'containers_collected'];
  c_pushed constant text[] := array['sessions', 'connections', 'semaphores', 'requests'];
  v_today date := (pg_catalog.now() at time zone 'UTC')::date;
  v_oldest timestamptz := (v_today - 14)::timestamp at time zone 'UTC';
  v_newest timestamptz := (v_today + 4)::timestamp at time zone 'UTC';
  v_streams text[];
  v_days date[];
  v_refused jsonb;
  v_new tid[];
  v_batch public.cf_events[];
  v_event public.cf_events;
begin
  -- Whoever takes a lease from here on waits for the end of this transaction, and then sees its heads.
  perform from public.cf_leases where stream = any (p_streams) and owner = p_owner order by stream for update;
  with batch as (
    select stream, min(epoch) as oldest, max(epoch) as newest
    from unnest(p_streams, p_epochs) as b(stream, epoch) group by stream
  )
  select pg_catalog.jsonb_object_agg(b.stream, case when lease.epoch >= b.newest then head.epoch end)
      filter (where lease.epoch is null or lease.epoch < b.newest or b.oldest < head.epoch),
    pg_catalog.array_agg(b.stream)
  into v_refused, v_streams
  from batch b
  left join public.cf_leases lease on lease.stream = b.stream and lease.owner = p_owner
  left join public.cf_stream_heads head on head.stream = b.stream;
  if v_refused is not null then
    raise exception 'owner % may not write %', p_owner,
        (select pg_catalog.string_agg(coalesce('epochs before ' || value || ' of ', '') || key, ', ' order by key)
         from pg_catalog.jsonb_each_text(v_refused))
      using errcode = 'CF002', detail = v_refused::text,
        hint = 'Another owner took the lease meanwhile; its epoch has sealed the ones before.';
  end if;
  update public.cf_leases set ttl_seconds = p_ttl_seconds, released = false,
    expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_ttl_seconds)
  where stream = any (v_streams);

  -- The days of which this batch has samples, of those that history takes: after an outage, days of which none was here
  -- yet. The same limits as cf_keep_house, which drops what is older and makes what is ahead.
  select pg_catalog.array_agg(day::date) into v_days
  from (
    select min(at at time zone 'UTC') as first, max(at at time zone 'UTC') as last
    from unnest(p_kinds, p_times) as b(kind, at)
    where kind = any (c_sampled) and at >= v_oldest and at < v_newest
  ) as sampled, pg_catalog.generate_series(first::date::timestamp, last, interval '1 day') as day;
  if exists (
    select from pg_catalog.unnest(v_days) as day
    where pg_catalog.to_regclass('public.cf_samples_' || pg_catalog.to_char(day, 'YYYYMMDD')) is null
  ) then
    perform public.cf_make_partitions(v_days);
  end if;

  -- All that follows reads the new rows back from where they are: there a payload is compressed, once, and the plan is the
  -- same however many rows the planner believes the feed to have.
  with feed as (
    insert into public.cf_events (stream, epoch, seq, id, device, category, metric_type, kind, occurred_at, payload)
    select stream, epoch, seq, id, pg_catalog.split_part(stream, '/', 1), pg_catalog.split_part(stream, '/', 2),
      metric_type, kind, occurred_at, payload
    from unnest(p_streams, p_epochs, p_seqs, p_ids, p_metric_types, p_kinds, p_times, p_payloads)
      as b(stream, epoch, seq, id, metric_type, kind, occurred_at, payload)
    on conflict (stream, epoch, seq) do nothing
    returning ctid
  )
  select pg_catalog.array_agg(ctid) into v_new from feed;
  if v_new is null then
    return 0;
  end if;

  insert into public.cf_stream_heads as h (stream, device, category, metric_type, epoch, seq)
  select distinct on (stream collate "C") stream, device, category, metric_type, epoch, seq
  from public.cf_events where ctid = any (v_new) order by stream collate "C", epoch desc, seq desc
  on conflict (stream) do update set epoch = excluded.epoch, seq = excluded.seq, updated_at = pg_catalog.now()
  where (excluded.epoch, excluded.seq) > (h.epoch, h.seq);

  insert into public.cf_stream_latest as l
    (stream, kind, device, category, metric_type, epoch, seq, id, occurred_at, payload)
  select distinct on (stream collate "C", kind collate "C")
    stream, kind, device, category, metric_type, epoch, seq, id, occurred_at, payload
  from public.cf_events where ctid = any (v_new) order by stream collate "C", kind collate "C", epoch desc, seq desc
  on conflict (stream, kind) do update
  set epoch = excluded.epoch, seq = excluded.seq, id = excluded.id, occurred_at = excluded.occurred_at,
    payload = excluded.payload
  where (excluded.epoch, excluded.seq) > (l.epoch, l.seq);

  if v_days is not null then
    insert into public.cf_samples (stream, sampled_at, metrics)
    select stream, occurred_at, payload from public.cf_events
    where ctid = any (v_new) and kind = any (c_sampled) and occurred_at >= v_oldest and occurred_at < v_newest
    on conflict do nothing;
    -- Locked even when it is there and not claimed: whoever claims it waits for us, and then sees our samples.
    insert into public.cf_rollup_pending as p (stream, hour)
    select distinct stream, public.cf_bin('1 hour', occurred_at) from public.cf_events
    where ctid = any (v_new) and kind = any (c_sampled) and occurred_at >= v_oldest and occurred_at < v_newest
    order by 1, 2
    on conflict (stream, hour) do update set claimed = false, problem = null where p.claimed or p.problem is not null;
  end if;

  -- What is made of an event for those who write SQL never rejects it: what cannot be made of it, one by one, is left out.
  v_batch := array(
    select distinct on (e.stream collate "C", e.kind collate "C", told) e
    from public.cf_events e
    cross join lateral (select case e.kind
      when 'containers_collected' then e.payload @> '{"available": true}'
      when 'device_status_changed' then e.payload ? 'new_status' end as told) as t
    where e.ctid = any (v_new) and e.kind in ('metric_collected', 'device_status_changed', 'containers_collected')
    order by e.stream collate "C", e.kind collate "C", told, e.epoch desc, e.seq desc);
  if pg_catalog.cardinality(v_batch) > 0 then
    begin
      perform public.cf_project_devices(v_batch), public.cf_project_containers(v_batch);
    exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
      for v_event in
        select * from public.cf_events
        where ctid = any (v_new) and kind in ('metric_collected', 'device_status_changed', 'containers_collected')
        order by stream, epoch, seq
      loop
        begin
          perform public.cf_project_devices(array[v_event]), public.cf_project_containers(array[v_event]);
        exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
          null;
        end;
      end loop;
    end;
  end if;

  if exists (
    select from pg_catalog.unnest(v_streams) as stream where pg_catalog.split_part(stream, '/', 2) = any (c_pushed)
  ) then
    v_batch := array(
      select e from public.cf_events e
      where e.ctid = any (v_new) and e.category = any (c_pushed) and e.kind <> 'stream_opened');
    perform public.cf_project_sessions(v_batch), public.cf_project_connections(v_batch),
      public.cf_project_semaphores(v_batch), public.cf_project_requests(v_batch);
  end if;
  return pg_catalog.cardinality(v_new);
end $$;
comment on function public.cf_append_rows(uuid, text[], bigint[], bigint[], uuid[], text[], text[], timestamptz[], jsonb[],
  int) is
  'Write a batch of events, a column each, with heads, latest state and history in one transaction: in the order of their
streams. Returns how many were new; what is there already is left alone. Raises CF002
with a DETAIL of {stream: epoch | null}: null, the owner has not that lease; a number, only events of epochs from that one
on are still taken.';

create or replace function public.cf_append(p_owner uuid, p_events jsonb, p_ttl_seconds int default 30) returns int
language sql set search_path = '' as $$
  select public.cf_append_rows(p_owner, pg_catalog.array_agg(stream), pg_catalog.array_agg(epoch),
    pg_catalog.array_agg(seq), pg_catalog.array_agg(id), pg_catalog.array_agg(metric_type), pg_catalog.array_agg(kind),
    pg_catalog.array_agg(occurred_at), pg_catalog.array_agg(payload), p_ttl_seconds)
  from pg_catalog.jsonb_to_recordset(p_events) as r(stream text, epoch bigint, seq bigint, id uuid, kind text,
    occurred_at timestamptz, payload jsonb, metric_type text)
$$;
comment on function public.cf_append(uuid, jsonb, int) is
  'cf_append_rows of a JSON array of events in wire form, plus metric_type.';

-- Time series: what history was, in buckets -------------------------------------------------------------------------------

create table public.cf_levels (
  level int primary key,
  name text not null unique,
  chunk interval,
  partition_days int not null,
  keep interval not null check (keep >= interval '1 day')
);
comment on table public.cf_levels is
  'How finely and how long history is kept. level: minutes a bucket, 0 for the samples themselves; chunk: the time that
one row of cf_rollups holds; keep: how long, set by cf_set_keep.';
insert into public.cf_levels values
  (0, 'raw', null, 1, '2 days'), (1, '1m', '1 hour', 1, '14 days'), (10, '10m', '6 hours', 7, '60 days'),
  (60, '1h', '1 day', 28, '400 days'), (1440, '1d', '28 days', 364, '3650 days');

create table public.cf_storage (
  id int primary key default 1 check (id = 1),
  limit_bytes bigint not null default 10000000000 check (limit_bytes >= 50000000),
  keep_events interval not null default '6 hours' check (keep_events >= interval '1 minute'),
  used_bytes bigint not null default 0,
  raw_from date not null default '-infinity',
  rolled_at timestamptz,
  trims bigint not null default 0,
  trimmed text,
  trimmed_at timestamptz
);
comment on table public.cf_storage is
  'One row: bounds, and what was done to keep them. raw_from: samples of days before it were dropped once; trims, trimmed:
how many partitions went before their time because limit_bytes was reached, and the newest of them.';
insert into public.cf_storage default values;

create table public.cf_metrics (
  id int generated always as identity primary key,
  stream text collate "C" not null,
  path text collate "C" not null,
  selector jsonpath not null,
  unique (stream, path)
);
comment on table public.cf_metrics is 'The numbers that samples of a stream have: cpu_usage, memory.used_bytes, disks[/].used_bytes.';

create table public.cf_rollups (
  level int not null,
  metric int not null,
  chunk timestamptz not null,
  places smallint[] not null,
  counts int[] not null,
  sums double precision[] not null,
  lows double precision[] not null,
  highs double precision[] not null,
  primary key (level, metric, chunk)
) partition by list (level);
comment on table public.cf_rollups is
  'Buckets of a metric, a chunk of time in a row: places counts them from the beginning of the chunk, those without a
sample are not there.';
create table public.cf_rollups_1m partition of public.cf_rollups for values in (1) partition by range (chunk);
create table public.cf_rollups_10m partition of public.cf_rollups for values in (10) partition by range (chunk);
create table public.cf_rollups_1h partition of public.cf_rollups for values in (60) partition by range (chunk);
create table public.cf_rollups_1d partition of public.cf_rollups for values in (1440) partition by range (chunk);

create table public.cf_rollup_pending (
  stream text collate "C" not null,
  hour timestamptz not null,
  claimed boolean not null default false,
  problem text,
  primary key (stream, hour)
) with (fillfactor = 50);
comment on table public.cf_rollup_pending is
  'Hours that have samples which no roll-up has. claimed: no transaction that began before can still add to it unseen.';

create type public.cf_point as (
  metric int, at timestamptz, n bigint, total double precision, low double precision, high double precision);

create function public.cf_bin(p_width interval, p_at timestamptz) returns timestamptz
language sql immutable set search_path = '' as $$
  select pg_catalog.date_bin(p_width, p_at, '2000-01-03 00:00:00+00')
$$;

create function public.cf_leaves(p_value jsonb)
returns table (path text, selector text, value double precision)
language sql immutable set search_path = '' as $$
  -- Of a list, what has a name is found by it, wherever it stands.
  with recursive walk(path, selector, value, depth) as (
    select '', '$', p_value, 0
    union all
    select walk.path || step.path, walk.selector || step.selector, step.value, walk.depth + 1
    from walk cross join lateral (
      select case when walk.depth = 0 then '' else '.' end || key as path, '.' || to_json(key)::text as selector, value
      from pg_catalog.jsonb_each(case when pg_catalog.jsonb_typeof(walk.value) = 'object' then walk.value end)
      where pg_catalog.jsonb_typeof(value) in ('number', 'object', 'array')
      union all
      select '[' || coalesce(named.name, (place - 1)::text) || ']',
        coalesce('[*] ? (@."' || named.member || '" == ' || to_json(named.name)::text || ')', '[' || place - 1 || ']'),
        value
      from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(walk.value) = 'array' then walk.value end)
        with ordinality as element(value, place)
      left join lateral (
        select member, element.value ->> member as name
        from pg_catalog.unnest(array['name', 'mount', 'device', 'interface', 'id']) as member
        where pg_catalog.jsonb_typeof(element.value) = 'object' and element.value ->> member is not null limit 1
      ) as named on true
    ) as step
    where walk.depth < 6
  )
  select path, selector, value::text::double precision from walk
  where pg_catalog.jsonb_typeof(value) = 'number' and pg_catalog.abs(value::numeric) < 1e300
$$;
comment on function public.cf_leaves(jsonb) is
  'The numbers in a payload, with their paths: objects by name, lists by the name, mount, device, interface or id of their
members, or else by place; six steps deep.';

create function public.cf_level_partition(p_level int, p_at timestamptz) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  v_level public.cf_levels;
  v_from date;
begin
  -- Whether the level still keeps that time; its partition is made when it has none yet.
  select * into v_level from public.cf_levels where level = p_level;
  v_from := (public.cf_bin(pg_catalog.make_interval(days => v_level.partition_days), p_at) at time zone 'UTC')::date;
  if ((v_from + v_level.partition_days)::timestamp at time zone 'UTC') <= pg_catalog.now() - v_level.keep then
    return false;
  end if;
  perform public.cf_make_partition('cf_rollups_' || v_level.name, v_from, v_from + v_level.partition_days);
  return true;
end $$;

create function public.cf_put(p_level int, p_points public.cf_point[], p_from timestamptz, p_to timestamptz, p_add boolean)
returns void
language sql set search_path = '' as $$
  -- Put points into their buckets: added to what is there, or in the place of all that is there from p_from to p_to.
  with fresh as (
    select p.metric, public.cf_bin(l.chunk, p.at) as chunk,
      pg_catalog.floor(extract(epoch from p.at - public.cf_bin(l.chunk, p.at)) / 60 / p_level)::int as place,
      p.n, p.total, p.low, p.high
    from pg_catalog.unnest(p_points) as p join public.cf_levels l on l.level = p_level
  ), kept as (
    select r.metric, r.chunk, b.place::int, b.n::bigint, b.total, b.low, b.high
    from public.cf_rollups r
    cross join unnest(r.places, r.counts, r.sums, r.lows, r.highs) as b(place, n, total, low, high)
    where r.level = p_level and (r.metric, r.chunk) in (select metric, chunk from fresh)
      and (p_add or not (r.chunk + pg_catalog.make_interval(mins => b.place * p_level) >= p_from
        and r.chunk + pg_catalog.make_interval(mins => b.place * p_level) < p_to))
  ), bucket as (
    select metric, chunk, place, sum(n) as n, sum(total) as total, min(low) as low, max(high) as high
    from (select * from fresh union all select * from kept) as both_of_them group by metric, chunk, place
  )
  insert into public.cf_rollups (level, metric, chunk, places, counts, sums, lows, highs)
  select p_level, metric, chunk, pg_catalog.array_agg(place order by place), pg_catalog.array_agg(n order by place),
    pg_catalog.array_agg(total order by place), pg_catalog.array_agg(low order by place),
    pg_catalog.array_agg(high order by place)
  from bucket group by metric, chunk order by metric, chunk
  on conflict (level, metric, chunk) do update set places = excluded.places, counts = excluded.counts,
    sums = excluded.sums, lows = excluded.lows, highs = excluded.highs
$$;

create function public.cf_roll_up_hour(p_stream text, p_hour timestamptz) returns void
language plpgsql set search_path = '' as $$
declare
  -- Once the samples of a day were dropped, what comes late is all there is of it: it is added, once, and goes.
  v_add boolean := p_hour < (select raw_from::timestamp at time zone 'UTC' from public.cf_storage);
  v_day timestamptz := public.cf_bin('1 day', p_hour);
  v_points public.cf_point[];
  v_level int;
begin
  with gone as (
    delete from public.cf_samples
    where v_add and stream = p_stream and sampled_at >= p_hour and sampled_at < p_hour + interval '1 hour'
    returning sampled_at, metrics
  ), samples as (
    select sampled_at, metrics from gone
    union all
    select sampled_at, metrics from public.cf_samples
    where not v_add and stream = p_stream and sampled_at >= p_hour and sampled_at < p_hour + interval '1 hour'
  ), minutes as materialized (
    select leaf.path, min(leaf.selector) as selector, public.cf_bin('1 minute', s.sampled_at) as at, count(*) as n,
      sum(leaf.value) as total, min(leaf.value) as low, max(leaf.value) as high
    from samples s cross join lateral public.cf_leaves(s.metrics) as leaf group by leaf.path, 3
  ), made as (
    insert into public.cf_metrics (stream, path, selector)
    select p_stream, m.path, min(m.selector)::jsonpath from minutes m
    where not exists (select from public.cf_metrics k where k.stream = p_stream and k.path = m.path)
    group by m.path
    returning id, path
  ), known as (
    select id, path from made union all select id, path from public.cf_metrics where stream = p_stream
  )
  select pg_catalog.array_agg(row(k.id, m.at, m.n, m.total, m.low, m.high)::public.cf_point) into v_points
  from minutes m join known k using (path);
  if v_points is null then
    return;
  end if;
  foreach v_level in array array[1, 10, 60] loop
    if public.cf_level_partition(v_level, p_hour) then
      perform public.cf_put(v_level, v_points, p_hour, p_hour + interval '1 hour', v_add);
    end if;
  end loop;
  if public.cf_level_partition(1440, p_hour) then
    if not v_add then
      select pg_catalog.array_agg(row(r.metric, v_day, b.n, b.total, b.low, b.high)::public.cf_point) into v_points
      from public.cf_metrics m join public.cf_rollups r on r.level = 60 and r.metric = m.id and r.chunk = v_day
      cross join unnest(r.counts, r.sums, r.lows, r.highs) as b(n, total, low, high)
      where m.stream = p_stream;
    end if;
    perform public.cf_put(1440, v_points, v_day, v_day + interval '1 day', v_add);
  end if;
end $$;
comment on function public.cf_roll_up_hour(text, timestamptz) is
  'Make the buckets of one hour of a stream anew, from its samples, on every level; doing it again changes nothing.';

create function public.cf_roll_up(p_seconds double precision default 0.1) returns int
language plpgsql set search_path = '' as $$
declare
  v_until timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_seconds);
  v_hour record;
  v_done text[] := '{}';
  v_hours timestamptz[] := '{}';
begin
  -- One at a time; the caller has asked before, but this may be called alone.
  if not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('cf_maintain')) then
    return 0;
  end if;
  -- What was claimed by a transaction that is over: whoever adds to such an hour now says so, and it comes again.
  for v_hour in
    select stream, hour from public.cf_rollup_pending where claimed and problem is null order by hour, stream limit 500
  loop
    begin
      perform public.cf_roll_up_hour(v_hour.stream, v_hour.hour);
      v_done := v_done || v_hour.stream;
      v_hours := v_hours || v_hour.hour;
    exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
      update public.cf_rollup_pending set problem = sqlerrm where stream = v_hour.stream and hour = v_hour.hour;
    end;
    exit when pg_catalog.clock_timestamp() > v_until;
  end loop;
  -- Writers hold these rows for as long as an append takes; nobody waits for them here.
  delete from public.cf_rollup_pending p using (
    select l.stream, l.hour from public.cf_rollup_pending l
    join unnest(v_done, v_hours) as d(stream, hour) on l.stream = d.stream and l.hour = d.hour
    where l.claimed for update of l skip locked) as l
  where p.stream = l.stream and p.hour = l.hour;
  update public.cf_rollup_pending p set claimed = true
  from (
    select stream, hour from public.cf_rollup_pending
    where not claimed and problem is null and hour <= pg_catalog.now() - interval '61 minutes'
    order by hour limit 500 for update skip locked) as due
  where p.stream = due.stream and p.hour = due.hour;
  update public.cf_storage set rolled_at = pg_catalog.now() where v_done <> '{}';
  return (select count(*) from public.cf_rollup_pending where claimed and problem is null);
end $$;
comment on function public.cf_roll_up(double precision) is
  'Roll up hours that are over, for about so many seconds; returns how many are left. Call again while it is not 0.';

-- Keeping house --------------------------------------------------------------------------------------------------------

create function public.cf_used_bytes() returns bigint
language sql stable security definer set search_path = '' as $$
  select coalesce(sum(pg_catalog.pg_total_relation_size(oid)), 0)::bigint from pg_catalog.pg_class
  where relnamespace = 'public'::pg_catalog.regnamespace and relkind = 'r' and relname like 'cf\_%'
$$;
comment on function public.cf_used_bytes() is 'The bytes on disk of all of Crossfade''s tables, with their indexes.';

create function public.cf_partitions()
returns table (level int, name text, from_day date, to_day date)
language sql stable security definer set search_path = '' as $$
  select l.level, c.relname::text, pg_catalog.to_date(pg_catalog.right(c.relname, 8), 'YYYYMMDD'),
    pg_catalog.to_date(pg_catalog.right(c.relname, 8), 'YYYYMMDD') + l.partition_days
  from public.cf_levels l
  join pg_catalog.pg_class c on c.relnamespace = 'public'::pg_catalog.regnamespace and c.relkind = 'r'
    and c.relname ~ ('^' || case l.level when 0 then 'cf_samples' else 'cf_rollups_' || l.name end || '_[0-9]{8}$')
  where c.relispartition
$$;
comment on function public.cf_partitions() is 'The partitions of history: their level, and the days (UTC) from, and before.';

create function public.cf_drop_partition(p_level int, p_name text, p_to date) returns boolean
language plpgsql security definer set search_path = '' as $$
begin
  -- False when somebody reads it, or an hour of it is not rolled up: the next call drops it.
  execute pg_catalog.format('lock table public.%I in access exclusive mode', p_name);
  if p_level = 0 and exists (
    select from public.cf_rollup_pending
    where hour >= (p_to - 1)::timestamp at time zone 'UTC' and hour < p_to::timestamp at time zone 'UTC'
      and problem is null) then
    return false;
  end if;
  execute pg_catalog.format('drop table public.%I', p_name);
  if p_level = 0 then
    delete from public.cf_rollup_pending where hour < p_to::timestamp at time zone 'UTC'
      and hour >= (p_to - 1)::timestamp at time zone 'UTC';
    update public.cf_storage set raw_from = greatest(raw_from, p_to);
  end if;
  return true;
exception when lock_not_available then
  return false;
end $$;

drop function public.cf_maintain(interval, interval, int);
create function public.cf_maintain(p_limit int default 5000) returns jsonb
-- Dropping waits for whoever reads history, and everybody else waits behind it: not for long.
language plpgsql security definer set search_path = '' set lock_timeout = '1s' as $$
declare
  v_storage public.cf_storage;
  v_events int := 0;
  v_dropped int := 0;
  v_made int;
  v_left int;
  v_old record;
  v_alone boolean := true;
begin
  -- One of the owners at a time, whoever comes first. The others need not wait: it is being done.
  if not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('cf_maintain')) then
    return '{"busy": true, "events_deleted": 0, "hours_left": 0, "partitions_dropped": 0, "partitions_made": 0}'::jsonb
      || (select pg_catalog.to_jsonb(s) from public.cf_storage s);
  end if;
  -- First what locks cf_samples: an append that waits for that holds no row that is deleted after it. Where an append of
  -- late samples holds it for long, nothing is made or dropped this time, and the rest is done.
  begin
    v_made := public.cf_ensure_partitions();
  exception when lock_not_available then
    v_made := 0;
    v_alone := false;
  end;
  for v_old in
    select p.* from public.cf_partitions() p join public.cf_levels l using (level)
    where v_alone and p.to_day::timestamp at time zone 'UTC' <= pg_catalog.now() - l.keep order by p.level, p.from_day
  loop
    v_dropped := v_dropped + public.cf_drop_partition(v_old.level, v_old.name, v_old.to_day)::int;
  end loop;
  -- The bound in bytes: the finest level gives up its oldest day first; what is being written, and days, stay.
  update public.cf_storage set used_bytes = public.cf_used_bytes() returning * into v_storage;
  if v_alone and v_storage.used_bytes > v_storage.limit_bytes then
    for v_old in
      select p.* from public.cf_partitions() p
      where p.level < 1440 and p.to_day < (pg_catalog.now() at time zone 'UTC')::date order by p.level, p.from_day
    loop
      exit when v_storage.used_bytes <= v_storage.limit_bytes;
      if public.cf_drop_partition(v_old.level, v_old.name, v_old.to_day) then
        v_dropped := v_dropped + 1;
        update public.cf_storage set used_bytes = public.cf_used_bytes(), trims = trims + 1, trimmed = v_old.name,
          trimmed_at = pg_catalog.now() returning * into v_storage;
      end if;
    end loop;
  end if;
  v_left := public.cf_roll_up();
  delete from public.cf_events where ctid = any (array(
    select ctid from public.cf_events where recorded_at < pg_catalog.now() - v_storage.keep_events limit p_limit));
  get diagnostics v_events = row_count;
  return pg_catalog.jsonb_build_object('events_deleted', v_events, 'hours_left', v_left,
    'partitions_dropped', v_dropped, 'partitions_made', v_made,
    'problems', (select count(*) from public.cf_rollup_pending where problem is not null))
    || pg_catalog.to_jsonb(v_storage);
end $$;
comment on function public.cf_maintain(int) is
  'Housekeeping, one short step, safe to call at any time and by anybody: make partitions ahead, drop what is older than
cf_levels says or beyond the bound in bytes, roll up hours that are over, delete at most p_limit expired events. Call it
again at once while events_deleted is p_limit or hours_left is not 0.';

create function public.cf_set_keep(p_keep jsonb default '{}', p_limit_bytes bigint default null) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_unknown text;
begin
  select pg_catalog.string_agg(key, ', ') into v_unknown from pg_catalog.jsonb_object_keys(p_keep) as key
  where key <> 'events' and key not in (select name from public.cf_levels);
  if v_unknown is not null then
    raise exception 'there is no level %', v_unknown using errcode = '22023',
      hint = 'Levels are events, raw, 1m, 10m, 1h, 1d.';
  end if;
  update public.cf_levels set keep = (p_keep ->> name)::interval
  where p_keep ? name and keep <> (p_keep ->> name)::interval;
  update public.cf_storage set keep_events = coalesce((p_keep ->> 'events')::interval, keep_events),
    limit_bytes = coalesce(p_limit_bytes, limit_bytes);
end $$;
comment on function public.cf_set_keep(jsonb, bigint) is
  'Choose how long is kept: {"raw": "2 days", "1m": "14 days", "events": "6 hours"}, and how many bytes at most.';

-- Reading ----------------------------------------------------------------------------------------------------------------

create function public.cf_series(
  p_stream text, p_field text, p_from timestamptz, p_to timestamptz, p_points int default 300
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_metric public.cf_metrics;
  v_selector jsonpath;
  v_level public.cf_levels;
  v_seconds double precision;
  v_step interval;
  v_hours timestamptz[];
  v_points jsonb;
begin
  if p_to <= p_from or p_points not between 1 and 10000 then
    raise exception 'no such range' using errcode = '22023', hint = 'from is before to, and points from 1 to 10000.';
  end if;
  select * into v_metric from public.cf_metrics where stream = p_stream and path = p_field;
  v_selector := coalesce(v_metric.selector, (
    select leaf.selector::jsonpath from public.cf_stream_latest l cross join lateral public.cf_leaves(l.payload) as leaf
    where l.stream = p_stream and leaf.path = p_field limit 1));
  -- The coarsest level that is fine enough, of those that reach back that far; else the one that does.
  v_seconds := extract(epoch from p_to - p_from) / p_points;
  select * into v_level from public.cf_levels
  where p_from >= pg_catalog.now() - keep or level = 1440
  order by level * 60 > v_seconds, case when level * 60 > v_seconds then level else -level end limit 1;
  v_step := pg_catalog.make_interval(secs => greatest(1, case v_level.level when 0 then pg_catalog.ceil(v_seconds)
    else pg_catalog.ceil(v_seconds / 60 / v_level.level) * 60 * v_level.level end));
  -- Hours that no roll-up has yet, or not whole, are read from their samples.
  v_hours := array(
    select hour from public.cf_rollup_pending
    where stream = p_stream and hour > p_from - interval '1 hour' and hour < p_to
      and hour >= (select raw_from::timestamp at time zone 'UTC' from public.cf_storage));
  with rolled as (
    select r.level, r.chunk + pg_catalog.make_interval(mins => b.place * r.level) as at, b.n, b.total, b.low, b.high
    from public.cf_rollups r
    cross join unnest(r.places, r.counts, r.sums, r.lows, r.highs) as b(place, n, total, low, high)
    where r.level = v_level.level and r.metric = v_metric.id
      and r.chunk > p_from - v_level.chunk and r.chunk < p_to
  ), hourly as (
    -- A day with such an hour is put together from its other hours.
    select r.chunk as day, r.chunk + pg_catalog.make_interval(mins => b.place * 60) as at, b.n, b.total, b.low, b.high
    from public.cf_rollups r
    cross join unnest(r.places, r.counts, r.sums, r.lows, r.highs) as b(place, n, total, low, high)
    where v_level.level = 1440 and r.level = 60 and r.metric = v_metric.id
      and r.chunk = any (array(select distinct public.cf_bin('1 day', hour) from pg_catalog.unnest(v_hours) as hour))
  ), sampled as (
    select s.sampled_at as at, (pg_catalog.jsonb_path_query_first(s.metrics, v_selector) #>> '{}')::double precision as value
    from public.cf_samples s
    where v_level.level = 0 and s.stream = p_stream and s.sampled_at >= p_from and s.sampled_at < p_to
    union all
    select s.sampled_at, (pg_catalog.jsonb_path_query_first(s.metrics, v_selector) #>> '{}')::double precision
    from pg_catalog.unnest(v_hours) as hour
    join public.cf_samples s on s.stream = p_stream and s.sampled_at >= hour and s.sampled_at < hour + interval '1 hour'
    where v_level.level > 0
  ), points as (
    select at, n, total, low, high from rolled
    where case level when 1440 then at <> all (array(select day from hourly)) and
        at <> all (array(select public.cf_bin('1 day', hour) from pg_catalog.unnest(v_hours) as hour))
      else public.cf_bin('1 hour', at) <> all (v_hours) end
    union all
    select at, n, total, low, high from hourly where at <> all (v_hours)
    union all
    select at, 1, value, value, value from sampled where value is not null
  ), stepped as (
    select public.cf_bin(v_step, at) as at, sum(n) as n, sum(total) as total, min(low) as low, max(high) as high
    from points where at >= public.cf_bin(v_step, p_from) and at < p_to group by 1
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
    extract(epoch from at), total / n, low, high, n) order by at), '[]') into v_points from stepped;
  return pg_catalog.jsonb_build_object('stream', p_stream, 'field', p_field, 'level', v_level.name,
    'step_seconds', extract(epoch from v_step), 'points', v_points);
end $$;
comment on function public.cf_series(text, text, timestamptz, timestamptz, int) is
  'A number of a stream over any range, in about p_points steps at most: {level, step_seconds, points: [[begin, mean, low,
high, count], ...]}, begin in seconds since 1970. Steps without a sample are not there. The level follows the range.';

create function public.cf_fields(p_stream text) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(pg_catalog.jsonb_agg(path order by path), '[]') from (
    select path from public.cf_metrics where stream = p_stream
    union
    select leaf.path collate "C" from public.cf_stream_latest l cross join lateral public.cf_leaves(l.payload) as leaf
    where l.stream = p_stream and l.kind in ('metric_collected', 'containers_collected')) as known
$$;
comment on function public.cf_fields(text) is 'The numbers of a stream that cf_series can be asked for.';

-- Rights, and what was there before ------------------------------------------------------------------------------------------

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cf_samples', 'cf_levels', 'cf_storage', 'cf_metrics', 'cf_rollups', 'cf_rollups_1m',
    'cf_rollups_10m', 'cf_rollups_1h', 'cf_rollups_1d', 'cf_rollup_pending']
  loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    if v_table !~ '^cf_rollups_' then
      execute format('grant select on public.%I to authenticated', v_table);
      execute format(
        'create policy cf_readers on public.%I for select to authenticated using ((select public.cf_is_reader()))',
        v_table);
    end if;
  end loop;
end $$;

revoke execute on function
  public.cf_append_rows(uuid, text[], bigint[], bigint[], uuid[], text[], text[], timestamptz[], jsonb[], int),
  public.cf_make_partition(text, date, date), public.cf_level_partition(int, timestamptz),
  public.cf_put(int, public.cf_point[], timestamptz, timestamptz, boolean), public.cf_roll_up_hour(text, timestamptz),
  public.cf_roll_up(double precision), public.cf_used_bytes(), public.cf_partitions(),
  public.cf_drop_partition(int, text, date), public.cf_maintain(int), public.cf_set_keep(jsonb, bigint)
  from public, anon, authenticated;
grant execute on function
  public.cf_append_rows(uuid, text[], bigint[], bigint[], uuid[], text[], text[], timestamptz[], jsonb[], int),
  public.cf_maintain(int), public.cf_set_keep(jsonb, bigint)
  to service_role;

select public.cf_make_partitions(array(
  select distinct (sampled_at at time zone 'UTC')::date from public.cf_old_samples
  union select (now() at time zone 'UTC')::date + n from generate_series(-1, 3) as n));
insert into public.cf_samples (stream, sampled_at, metrics)
select device || '/' || category, sampled_at, metrics from public.cf_old_samples where target = device
on conflict do nothing;
insert into public.cf_samples (stream, sampled_at, metrics)
select device || '/' || category, sampled_at, jsonb_build_object('containers', jsonb_agg(metrics))
from public.cf_old_samples where target <> device group by 1, 2
on conflict do nothing;
insert into public.cf_rollup_pending (stream, hour)
select distinct stream, public.cf_bin('1 hour', sampled_at) from public.cf_samples;
drop table public.cf_old_samples;
