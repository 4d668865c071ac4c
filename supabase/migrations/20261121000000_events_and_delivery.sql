-- Crossfade: the feed, its heads, the latest state, history, and the functions that write and read them.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged. What every Supabase project already has (roles, auth,
-- the realtime schema, the publication supabase_realtime) is used, never made, here.

-- Who may read -------------------------------------------------------------------------------------------------------

create function public.cf_role() returns text
language sql stable set search_path = '' as $$
  select auth.jwt() -> 'app_metadata' ->> 'crossfade_role'
$$;
comment on function public.cf_role() is
  'The caller''s role in Crossfade: viewer, operator, admin, or null for anybody else who happens to be signed in.';

create function public.cf_is_reader() returns boolean
language sql stable set search_path = '' as $$
  select coalesce(public.cf_role() in ('viewer', 'operator', 'admin'), false)
$$;

-- Leases: one owner a stream -----------------------------------------------------------------------------------------

create table public.cf_leases (
  stream text primary key check (stream ~ '^[^/]+/[^/]+$'),
  owner uuid not null,
  epoch bigint not null check (epoch >= 1),
  acquired_at timestamptz not null default now(),
  expires_at timestamptz not null
);
comment on table public.cf_leases is
  'Who may write a stream. The epoch rises with each new owner; an owner whose lease was taken is fenced by cf_append.';

-- The feed -----------------------------------------------------------------------------------------------------------

create table public.cf_events (
  stream text not null,
  epoch bigint not null check (epoch >= 1),
  seq bigint not null check (seq >= 1),
  id uuid not null,
  device text not null,
  category text not null,
  metric_type text not null,
  kind text not null,
  occurred_at timestamptz not null,
  payload jsonb not null check (jsonb_typeof(payload) = 'object'),
  recorded_at timestamptz not null default now(),
  primary key (stream, epoch, seq)
);
comment on table public.cf_events is
  'The feed: kept for hours, pushed by Realtime. A client that missed something reads it back from here.';
create index cf_events_recorded_at on public.cf_events using brin (recorded_at);

create table public.cf_stream_heads (
  stream text primary key,
  device text not null,
  category text not null,
  metric_type text not null,
  epoch bigint not null,
  seq bigint not null,
  updated_at timestamptz not null default now()
);
comment on table public.cf_stream_heads is 'How far each stream is, written in the transaction of the events.';

-- The latest state ---------------------------------------------------------------------------------------------------

create table public.cf_stream_latest (
  stream text not null,
  kind text not null,
  device text not null,
  category text not null,
  metric_type text not null,
  epoch bigint not null,
  seq bigint not null,
  id uuid not null,
  occurred_at timestamptz not null,
  payload jsonb not null,
  primary key (stream, kind)
);
comment on table public.cf_stream_latest is 'The newest event of each stream and kind: what a snapshot answers.';

create table public.cf_devices_latest (
  device text primary key,
  hostname text,
  status text not null default 'up',
  cpu_usage double precision,
  memory_usage double precision,
  sampled_at timestamptz,
  status_changed_at timestamptz
);
comment on table public.cf_devices_latest is 'One row a device. cpu_usage and memory_usage are percent of the whole host.';

create table public.cf_containers_latest (
  device text not null,
  container_id text not null,
  name text not null,
  image text,
  status text not null,
  health text,
  running boolean not null,
  cpu_percent double precision,
  memory_used_bytes bigint,
  memory_limit_bytes bigint,
  sampled_at timestamptz not null,
  primary key (device, container_id)
);
comment on table public.cf_containers_latest is
  'One row a container that its device still has. cpu_percent is 100 a core, as docker stats shows it.';

-- History: not published, partitioned by day ---------------------------------------------------------------------------

create table public.cf_samples (
  device text not null,
  category text not null,
  target text not null,
  sampled_at timestamptz not null,
  metrics jsonb not null,
  primary key (device, category, target, sampled_at)
) partition by range (sampled_at);
comment on table public.cf_samples is
  'One wide row a target and tick: target is the device itself, or a container''s name. Partitions: cf_samples_YYYYMMDD.';
create index cf_samples_sampled_at on public.cf_samples using brin (sampled_at);

create function public.cf_make_partitions(p_days date[]) returns int
language plpgsql security definer set search_path = '' as $$
declare
  v_day date;
  v_made int := 0;
  v_name text;
begin
  -- One maker at a time; the others find the partitions there. Whoever wants this lock takes it before it touches
  -- cf_samples, so that nobody waits for it while holding what its holder wants.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('cf_samples partitions'));
  foreach v_day in array p_days loop
    v_name := 'cf_samples_' || pg_catalog.to_char(v_day, 'YYYYMMDD');
    -- Asked of the catalogue itself: to_regclass may still answer from before another maker's commit.
    continue when exists (
      select from pg_catalog.pg_class
      where relname = v_name and relnamespace = 'public'::pg_catalog.regnamespace);
    -- Made beside the table and attached: unlike "create table ... partition of", that blocks no reader and no writer.
    execute pg_catalog.format('create table public.%I (like public.cf_samples)', v_name);
    execute pg_catalog.format('alter table public.%I enable row level security', v_name);
    execute pg_catalog.format('revoke all on public.%I from anon, authenticated', v_name);
    execute pg_catalog.format(
      'alter table public.cf_samples attach partition public.%I for values from (%L) to (%L)',
      v_name, v_day::text || ' 00:00:00+00', (v_day + 1)::text || ' 00:00:00+00');
    v_made := v_made + 1;
  end loop;
  return v_made;
end $$;
comment on function public.cf_make_partitions(date[]) is
  'Make the partitions of cf_samples for the days (UTC) that have none yet; returns how many were made.';

create function public.cf_ensure_partitions(p_days_ahead int default 3) returns int
language sql security definer set search_path = '' as $$
  select public.cf_make_partitions(array(
    select (pg_catalog.now() at time zone 'UTC')::date + n from pg_catalog.generate_series(-1, p_days_ahead) as n))
$$;
comment on function public.cf_ensure_partitions(int) is
  'Make the daily partitions of cf_samples from yesterday to the given number of days ahead (UTC); returns how many.';

create function public.cf_maintain(
  p_keep_events interval default '6 hours', p_keep_samples interval default '14 days', p_limit int default 5000
) returns jsonb
-- Dropping waits for whoever reads history, and everybody else waits behind it: not for long.
language plpgsql security definer set search_path = '' set lock_timeout = '1s' as $$
declare
  v_events int;
  v_partitions int := 0;
  v_made int;
  v_name text;
begin
  -- First what locks cf_samples: an append that waits for that holds no row that is deleted after it.
  v_made := public.cf_ensure_partitions();
  for v_name in
    select c.relname from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.cf_samples'::pg_catalog.regclass
      and case when c.relname ~ '^cf_samples_[0-9]{8}$'
        then pg_catalog.to_date(pg_catalog.right(c.relname, 8), 'YYYYMMDD')
          < ((pg_catalog.now() - p_keep_samples) at time zone 'UTC')::date end
    order by 1
  loop
    begin
      execute pg_catalog.format('drop table public.%I', v_name);
      v_partitions := v_partitions + 1;
    exception when lock_not_available then
      exit;  -- somebody reads history: the next call drops it
    end;
  end loop;
  delete from public.cf_events where ctid = any (array(
    select ctid from public.cf_events where recorded_at < pg_catalog.now() - p_keep_events limit p_limit));
  get diagnostics v_events = row_count;
  return pg_catalog.jsonb_build_object(
    'events_deleted', v_events, 'partitions_dropped', v_partitions, 'partitions_made', v_made);
end $$;
comment on function public.cf_maintain(interval, interval, int) is
  'Housekeeping, safe to call at any time: make partitions ahead, drop old ones, delete at most p_limit expired events.
Call it again while events_deleted is p_limit.';

-- Writing ------------------------------------------------------------------------------------------------------------

create function public.cf_acquire_lease(
  p_stream text, p_owner uuid, p_epoch_hint bigint default null, p_ttl_seconds int default 30
) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_lease public.cf_leases;
  v_head public.cf_stream_heads;
  v_expires timestamptz := pg_catalog.now() + pg_catalog.make_interval(secs => p_ttl_seconds);
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('cf_lease:' || p_stream));
  select * into v_lease from public.cf_leases where stream = p_stream for update;
  select * into v_head from public.cf_stream_heads where stream = p_stream;
  if v_lease.stream is null then
    -- An owner that comes with a spool of its own goes on in its epoch; the database may be newer than the spool.
    insert into public.cf_leases (stream, owner, epoch, expires_at)
    values (p_stream, p_owner, greatest(coalesce(p_epoch_hint, 1), coalesce(v_head.epoch + 1, 1)), v_expires)
    returning * into v_lease;
  elsif v_lease.owner = p_owner and v_lease.epoch = coalesce(p_epoch_hint, v_lease.epoch) then
    update public.cf_leases set expires_at = v_expires where stream = p_stream returning * into v_lease;
  elsif v_lease.owner = p_owner or v_lease.expires_at < pg_catalog.now() then
    update public.cf_leases
    set owner = p_owner, epoch = greatest(v_lease.epoch, coalesce(v_head.epoch, 0), coalesce(p_epoch_hint, 0)) + 1,
      acquired_at = pg_catalog.now(), expires_at = v_expires
    where stream = p_stream returning * into v_lease;
  else
    raise exception 'stream % is held by owner % until %', p_stream, v_lease.owner, v_lease.expires_at
      using errcode = 'CF001', hint = 'Wait until the lease expires, or stop the other owner.';
  end if;
  return pg_catalog.jsonb_build_object(
    'epoch', v_lease.epoch,
    'previous', case when v_head.stream is not null
      then pg_catalog.jsonb_build_object('epoch', v_head.epoch, 'seq', v_head.seq) end);
end $$;
comment on function public.cf_acquire_lease(text, uuid, bigint, int) is
  'Take or renew the lease of a stream. Returns {epoch, previous: {epoch, seq} | null}. p_epoch_hint is the epoch the
owner''s spool already writes, null when it has none. Raises CF001 while another owner holds it.';

create function public.cf_append(p_owner uuid, p_events jsonb, p_ttl_seconds int default 30) returns int
language plpgsql set search_path = '' as $$
declare
  v_today date := (pg_catalog.now() at time zone 'UTC')::date;
  v_days date[];
  v_event jsonb;
  v_fenced text;
  v_accepted int;
begin
  with batch as (
    select e ->> 'stream' as stream, max((e ->> 'epoch')::bigint) as epoch
    from pg_catalog.jsonb_array_elements(p_events) as e group by 1
  ), held as (
    update public.cf_leases l set expires_at = pg_catalog.now() + pg_catalog.make_interval(secs => p_ttl_seconds)
    from batch b where l.stream = b.stream and l.owner = p_owner and l.epoch >= b.epoch
    returning l.stream
  )
  select pg_catalog.string_agg(b.stream, ', ') into v_fenced
  from batch b where not exists (select from held where held.stream = b.stream);
  if v_fenced is not null then
    raise exception 'owner % no longer holds %', p_owner, v_fenced
      using errcode = 'CF002', detail = v_fenced, hint = 'Another owner took the lease; this one must stop.';
  end if;

  -- The days that history keeps, and of which this batch has samples: after an outage, days of which none was here yet.
  -- The limits are those of cf_maintain, which drops what is older and makes what is ahead.
  select pg_catalog.array_agg(distinct b.day) into v_days
  from (
    select ((e ->> 'occurred_at')::timestamptz at time zone 'UTC')::date as day
    from pg_catalog.jsonb_array_elements(p_events) as e
    where e ->> 'kind' in ('metric_collected', 'containers_collected')
  ) as b
  where b.day between v_today - 14 and v_today + 3;
  if exists (
    select from pg_catalog.unnest(v_days) as day
    where pg_catalog.to_regclass('public.cf_samples_' || pg_catalog.to_char(day, 'YYYYMMDD')) is null
  ) then
    perform public.cf_make_partitions(v_days);
  end if;

  with batch as materialized (
    select r.*, pg_catalog.split_part(r.stream, '/', 1) as device, pg_catalog.split_part(r.stream, '/', 2) as category
    from pg_catalog.jsonb_to_recordset(p_events) as r(stream text, epoch bigint, seq bigint, id uuid, kind text,
      occurred_at timestamptz, payload jsonb, metric_type text)
  ), feed as (
    insert into public.cf_events (stream, epoch, seq, id, device, category, metric_type, kind, occurred_at, payload)
    select stream, epoch, seq, id, device, category, metric_type, kind, occurred_at, payload from batch
    order by stream, epoch, seq
    on conflict (stream, epoch, seq) do nothing
    returning 1
  ), heads as (
    insert into public.cf_stream_heads as h (stream, device, category, metric_type, epoch, seq)
    select distinct on (stream) stream, device, category, metric_type, epoch, seq
    from batch order by stream, epoch desc, seq desc
    on conflict (stream) do update set epoch = excluded.epoch, seq = excluded.seq, updated_at = pg_catalog.now()
    where (excluded.epoch, excluded.seq) > (h.epoch, h.seq)
  ), latest as (
    insert into public.cf_stream_latest as l
      (stream, kind, device, category, metric_type, epoch, seq, id, occurred_at, payload)
    select distinct on (stream, kind)
      stream, kind, device, category, metric_type, epoch, seq, id, occurred_at, payload
    from batch order by stream, kind, epoch desc, seq desc
    on conflict (stream, kind) do update
    set epoch = excluded.epoch, seq = excluded.seq, id = excluded.id, occurred_at = excluded.occurred_at,
      payload = excluded.payload
    where (excluded.epoch, excluded.seq) > (l.epoch, l.seq)
  ), sampled as (
    select distinct on (device) device, payload, occurred_at from batch
    where kind = 'metric_collected' and category = 'system' order by device, epoch desc, seq desc
  ), changed as (
    select distinct on (device) device, payload ->> 'new_status' as status, occurred_at from batch
    where kind = 'device_status_changed' and payload ? 'new_status' order by device, epoch desc, seq desc
  ), devices as (
    insert into public.cf_devices_latest as d
      (device, hostname, status, cpu_usage, memory_usage, sampled_at, status_changed_at)
    select device, s.payload ->> 'hostname', coalesce(c.status, 'up'), (s.payload ->> 'cpu_usage')::double precision,
      (s.payload ->> 'memory_usage')::double precision, s.occurred_at, c.occurred_at
    from sampled s full join changed c using (device)
    on conflict (device) do update set
      hostname = coalesce(excluded.hostname, d.hostname),
      cpu_usage = case when excluded.sampled_at is null then d.cpu_usage else excluded.cpu_usage end,
      memory_usage = case when excluded.sampled_at is null then d.memory_usage else excluded.memory_usage end,
      sampled_at = greatest(excluded.sampled_at, d.sampled_at),
      status = case when excluded.status_changed_at is null then d.status else excluded.status end,
      status_changed_at = greatest(excluded.status_changed_at, d.status_changed_at)
  )
  select count(*) into v_accepted from feed;

  perform public.cf_project_containers(p_events);

  -- History never rejects an event: what it cannot keep, one by one, it goes without.
  begin
    perform public.cf_record_samples(p_events, v_days);
  exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    for v_event in select e from pg_catalog.jsonb_array_elements(p_events) as e loop
      begin
        perform public.cf_record_samples(pg_catalog.jsonb_build_array(v_event), v_days);
      exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
        null;
      end;
    end loop;
  end;
  return v_accepted;
end $$;
comment on function public.cf_append(uuid, jsonb, int) is
  'Write a batch of events (wire form, plus metric_type) with heads, latest state and history in one transaction.
Returns how many were new; what is there already is left alone. Raises CF002 when the owner was fenced.';

create function public.cf_record_samples(p_events jsonb, p_days date[]) returns void
language sql set search_path = '' as $$
  -- Only of the days that have a partition; a sample of any other is left out.
  with samples as (
    select pg_catalog.split_part(e ->> 'stream', '/', 1) as device,
      pg_catalog.split_part(e ->> 'stream', '/', 2) as category, e ->> 'kind' as kind,
      (e ->> 'occurred_at')::timestamptz as sampled_at, e -> 'payload' as payload
    from pg_catalog.jsonb_array_elements(p_events) as e
    where e ->> 'kind' in ('metric_collected', 'containers_collected')
  ), kept as (
    select * from samples where (sampled_at at time zone 'UTC')::date = any (p_days)
  )
  insert into public.cf_samples (device, category, target, sampled_at, metrics)
  select device, category, device, sampled_at, payload from kept where kind = 'metric_collected'
  union all
  select k.device, k.category, c ->> 'name', k.sampled_at, c
  from kept k, pg_catalog.jsonb_array_elements(k.payload -> 'containers') as c
  where k.kind = 'containers_collected' and (c ->> 'running')::boolean
  on conflict do nothing
$$;

create function public.cf_project_containers(p_events jsonb) returns void
language sql set search_path = '' as $$
  -- The newest list of each device is the truth: rows it no longer names are gone.
  with newest as (
    select distinct on (pg_catalog.split_part(e ->> 'stream', '/', 1))
      pg_catalog.split_part(e ->> 'stream', '/', 1) as device, (e ->> 'occurred_at')::timestamptz as occurred_at,
      e -> 'payload' -> 'containers' as containers
    from pg_catalog.jsonb_array_elements(p_events) as e
    where e ->> 'kind' = 'containers_collected' and (e -> 'payload' ->> 'available')::boolean
    order by 1, (e ->> 'epoch')::bigint desc, (e ->> 'seq')::bigint desc
  ), listed as (
    select n.device, n.occurred_at, c from newest n, pg_catalog.jsonb_array_elements(n.containers) as c
  ), gone as (
    delete from public.cf_containers_latest l using newest n
    where l.device = n.device and l.sampled_at <= n.occurred_at
      and not exists (select from listed where listed.device = l.device and listed.c ->> 'id' = l.container_id)
  )
  insert into public.cf_containers_latest as l (device, container_id, name, image, status, health, running,
    cpu_percent, memory_used_bytes, memory_limit_bytes, sampled_at)
  select device, c ->> 'id', c ->> 'name', c ->> 'image', c ->> 'status', c ->> 'health', (c ->> 'running')::boolean,
    (c ->> 'cpu_percent')::double precision, (c ->> 'memory_used_bytes')::bigint, (c ->> 'memory_limit_bytes')::bigint,
    occurred_at
  from listed
  on conflict (device, container_id) do update set name = excluded.name, image = excluded.image,
    status = excluded.status, health = excluded.health, running = excluded.running,
    cpu_percent = excluded.cpu_percent, memory_used_bytes = excluded.memory_used_bytes,
    memory_limit_bytes = excluded.memory_limit_bytes, sampled_at = excluded.sampled_at
  where excluded.sampled_at >= l.sampled_at
$$;

-- Reading: invoker's rights, so that row level security decides -----------------------------------------------------------

create function public.cf_selects(p_topics text[], p_device text, p_category text, p_metric_type text) returns boolean
language sql immutable set search_path = '' as $$
  select p_topics && array['global', 'devices.*', 'categories.*', 'metrics.*',
    'devices.' || p_device, 'categories.' || p_category, 'metrics.' || p_metric_type]
$$;

create function public.cf_event_json(
  p_id uuid, p_stream text, p_epoch bigint, p_seq bigint, p_kind text, p_occurred_at timestamptz, p_payload jsonb
) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.jsonb_build_object('id', p_id, 'stream', p_stream, 'epoch', p_epoch, 'seq', p_seq, 'kind', p_kind,
    'occurred_at', pg_catalog.to_char(p_occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'payload', p_payload)
$$;

create function public.cf_heads(p_topics text[] default array['global']) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(pg_catalog.jsonb_object_agg(stream, pg_catalog.jsonb_build_array(epoch, seq)), '{}')
  from public.cf_stream_heads where public.cf_selects(p_topics, device, category, metric_type)
$$;
comment on function public.cf_heads(text[]) is 'How far each stream of the topics is: {stream: [epoch, seq]}.';

create function public.cf_snapshot(p_topics text[] default array['global']) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.jsonb_build_object(
    'cursor', public.cf_heads(p_topics),
    'state', coalesce((
      select pg_catalog.jsonb_agg(
        public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload) order by stream, kind)
      from public.cf_stream_latest where public.cf_selects(p_topics, device, category, metric_type)), '[]'))
$$;
comment on function public.cf_snapshot(text[]) is
  'The newest event of each stream and kind of the topics, and the cursor it stands at, in one database snapshot.';

create function public.cf_events_after(
  p_cursor jsonb default '{}', p_topics text[] default array['global'], p_limit int default 500
) returns jsonb
language sql stable set search_path = '' as $$
  with heads as (
    select h.stream, h.epoch, h.seq,
      coalesce((p_cursor -> h.stream ->> 0)::bigint, 0) as from_epoch,
      coalesce((p_cursor -> h.stream ->> 1)::bigint, 0) as from_seq
    from public.cf_stream_heads h where public.cf_selects(p_topics, h.device, h.category, h.metric_type)
  ), page as (
    select e.* from heads h
    cross join lateral (
      select * from public.cf_events e
      where e.stream = h.stream and (e.epoch, e.seq) > (h.from_epoch, h.from_seq)
      order by e.epoch, e.seq limit least(p_limit, 1000)
    ) as e
    where (h.epoch, h.seq) > (h.from_epoch, h.from_seq)
    order by e.stream, e.epoch, e.seq limit least(p_limit, 1000)
  )
  select pg_catalog.jsonb_build_object(
    'events', coalesce((
      select pg_catalog.jsonb_agg(
        public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload) order by stream, epoch, seq)
      from page), '[]'),
    'heads', (select coalesce(pg_catalog.jsonb_object_agg(stream, pg_catalog.jsonb_build_array(epoch, seq)), '{}')
      from heads),
    'more', (select count(*) from page) >= least(p_limit, 1000))
$$;
comment on function public.cf_events_after(jsonb, text[], int) is
  'What a client missed: at most p_limit (1000) retained events of the topics after the cursor, ordered by stream, epoch
and seq; heads as of the same moment; more = true when the page is full: advance the cursor and ask again.';

-- Rights -------------------------------------------------------------------------------------------------------------

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cf_leases', 'cf_events', 'cf_stream_heads', 'cf_stream_latest', 'cf_devices_latest',
    'cf_containers_latest', 'cf_samples']
  loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    if v_table <> 'cf_leases' then
      execute format('grant select on public.%I to authenticated', v_table);
      execute format(
        'create policy cf_readers on public.%I for select to authenticated using ((select public.cf_is_reader()))',
        v_table);
    end if;
  end loop;
end $$;

revoke execute on function public.cf_append(uuid, jsonb, int), public.cf_acquire_lease(text, uuid, bigint, int),
  public.cf_project_containers(jsonb), public.cf_record_samples(jsonb, date[]), public.cf_make_partitions(date[]),
  public.cf_ensure_partitions(int), public.cf_maintain(interval, interval, int)
  from public, anon, authenticated;
grant execute on function public.cf_append(uuid, jsonb, int), public.cf_acquire_lease(text, uuid, bigint, int),
  public.cf_project_containers(jsonb), public.cf_record_samples(jsonb, date[]), public.cf_make_partitions(date[]),
  public.cf_ensure_partitions(int), public.cf_maintain(interval, interval, int)
  to service_role;

select public.cf_ensure_partitions();

alter publication supabase_realtime add table public.cf_events;
