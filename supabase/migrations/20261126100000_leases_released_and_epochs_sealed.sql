-- Leases that are let go, epochs that are sealed, and one call for all of an owner's leases. docs/adr/0006.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged. Times are the database's own, never an owner's.

alter table public.cf_leases
  add column ttl_seconds int not null default 30 check (ttl_seconds >= 1),
  add column released boolean not null default false,
  add column follows_drained boolean not null default true;
comment on column public.cf_leases.released is
  'Its owner let go of it, and all of its events are here: the next owner need not wait.';
comment on column public.cf_leases.follows_drained is
  'Whether the owner before had let go so. If not, it may have events that will never be here, and readers are told.';

create function public.cf_lease_ends(p_lease public.cf_leases) returns timestamptz
language sql volatile set search_path = '' as $$
  -- While the database was down nobody could renew: the owner gets a whole term after a start.
  select case when p_lease.released then '-infinity' else greatest(p_lease.expires_at,
    pg_catalog.pg_postmaster_start_time() + pg_catalog.make_interval(secs => p_lease.ttl_seconds)) end
$$;
comment on function public.cf_lease_ends(public.cf_leases) is 'From when on another owner may take the lease.';

create function public.cf_acquire_leases(p_owner uuid, p_streams jsonb, p_ttl_seconds int default 30) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_stream text;
  v_hint bigint;
  v_lease public.cf_leases;
  v_head public.cf_stream_heads;
  v_answer jsonb := '{}';
begin
  -- In one order, as cf_append locks them, so that owners who want each other's streams cannot lock each other out.
  for v_stream, v_hint in select key, value::bigint from pg_catalog.jsonb_each_text(p_streams) order by key loop
    -- An owner that comes with a spool of its own goes on in its epoch; the database may be newer than the spool.
    insert into public.cf_leases (stream, owner, epoch, expires_at, ttl_seconds, follows_drained)
    select v_stream, p_owner, greatest(coalesce(v_hint, 1), coalesce(max(h.epoch) + 1, 1)),
      pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_ttl_seconds), p_ttl_seconds, max(h.epoch) is null
    from public.cf_stream_heads h where h.stream = v_stream
    on conflict (stream) do nothing
    returning * into v_lease;
    if not found then
      update public.cf_leases as l
      set owner = p_owner,
        epoch = case when l.owner = p_owner and l.epoch = coalesce(v_hint, l.epoch) then l.epoch
          else greatest(l.epoch, coalesce(v_hint, 0)) + 1 end,
        follows_drained = case when l.owner = p_owner and l.epoch = coalesce(v_hint, l.epoch) then l.follows_drained
          else l.released end,
        acquired_at = case when l.owner = p_owner then l.acquired_at else pg_catalog.clock_timestamp() end,
        expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_ttl_seconds),
        ttl_seconds = p_ttl_seconds, released = false
      where l.stream = v_stream and (l.owner = p_owner or public.cf_lease_ends(l) < pg_catalog.clock_timestamp())
      returning * into v_lease;
    end if;
    if found then
      select * into v_head from public.cf_stream_heads where stream = v_stream;
      v_answer := v_answer || pg_catalog.jsonb_build_object(v_stream, pg_catalog.jsonb_build_object(
        'epoch', v_lease.epoch, 'drained', v_lease.follows_drained,
        'previous', case when v_head.stream is not null
          then pg_catalog.jsonb_build_object('epoch', v_head.epoch, 'seq', v_head.seq) end));
    else
      v_answer := v_answer || (
        select pg_catalog.jsonb_build_object(v_stream, pg_catalog.jsonb_build_object(
          'owner', l.owner, 'until', public.cf_lease_ends(l)))
        from public.cf_leases l where stream = v_stream);
    end if;
  end loop;
  return v_answer;
end $$;
comment on function public.cf_acquire_leases(uuid, jsonb, int) is
  'Take or renew the leases of {stream: epoch that the owner''s spool already writes, or null}. Returns for each stream
{epoch, previous: {epoch, seq} | null, drained}, or {owner, until} while another owner holds it. drained = false: the
owner before did not let go of it; what it still had after previous is lost to the stream.';

create or replace function public.cf_acquire_lease(
  p_stream text, p_owner uuid, p_epoch_hint bigint default null, p_ttl_seconds int default 30
) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_answer jsonb := public.cf_acquire_leases(
    p_owner, pg_catalog.jsonb_build_object(p_stream, p_epoch_hint), p_ttl_seconds) -> p_stream;
begin
  if v_answer ? 'owner' then
    raise exception 'stream % is held by owner % until %', p_stream, v_answer ->> 'owner', v_answer ->> 'until'
      using errcode = 'CF001', hint = 'Wait until the lease expires, or stop the other owner.';
  end if;
  return v_answer;
end $$;
comment on function public.cf_acquire_lease(text, uuid, bigint, int) is
  'cf_acquire_leases for one stream; raises CF001 while another owner holds it.';

create function public.cf_release_leases(p_owner uuid, p_streams text[]) returns int
language sql set search_path = '' as $$
  with let_go as (
    update public.cf_leases set released = true, expires_at = pg_catalog.clock_timestamp()
    where owner = p_owner and stream = any (p_streams) returning 1
  )
  select count(*) from let_go
$$;
comment on function public.cf_release_leases(uuid, text[]) is
  'Let go of leases, all of whose events are here. Their next owner takes them at once; the same owner goes on in its
epoch.';

-- Writing: the batch is read out of its JSON once ----------------------------------------------------------------------

drop function public.cf_project_containers(jsonb);
drop function public.cf_record_samples(jsonb, date[]);

create function public.cf_project_devices(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  with sampled as (
    select distinct on (device) device, payload, occurred_at from pg_catalog.unnest(p_batch)
    where kind = 'metric_collected' and category = 'system' order by device, epoch desc, seq desc
  ), changed as (
    select distinct on (device) device, payload ->> 'new_status' as status, occurred_at from pg_catalog.unnest(p_batch)
    where kind = 'device_status_changed' and payload ? 'new_status' order by device, epoch desc, seq desc
  )
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
$$;

create function public.cf_project_containers(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  -- The newest list of each device is the truth: rows it no longer names are gone.
  with newest as (
    select distinct on (device) device, occurred_at, payload -> 'containers' as containers
    from pg_catalog.unnest(p_batch)
    where kind = 'containers_collected' and (payload ->> 'available')::boolean
    order by device, epoch desc, seq desc
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

create function public.cf_record_samples(p_batch public.cf_events[], p_days date[]) returns void
language sql set search_path = '' as $$
  -- Only of the days that have a partition; a sample of any other is left out.
  with kept as (
    select device, category, kind, occurred_at, payload from pg_catalog.unnest(p_batch)
    where kind in ('metric_collected', 'containers_collected')
      and (occurred_at at time zone 'UTC')::date = any (p_days)
  )
  insert into public.cf_samples (device, category, target, sampled_at, metrics)
  select device, category, device, occurred_at, payload from kept where kind = 'metric_collected'
  union all
  select k.device, k.category, c ->> 'name', k.occurred_at, c
  from kept k, pg_catalog.jsonb_array_elements(k.payload -> 'containers') as c
  where k.kind = 'containers_collected' and (c ->> 'running')::boolean
  on conflict do nothing
$$;

create or replace function public.cf_append(p_owner uuid, p_events jsonb, p_ttl_seconds int default 30) returns int
language plpgsql set search_path = '' as $$
declare
  v_today date := (pg_catalog.now() at time zone 'UTC')::date;
  v_batch public.cf_events[];
  v_event public.cf_events;
  v_days date[];
  v_refused jsonb;
  v_accepted int;
begin
  v_batch := array(
    select row(r.stream, r.epoch, r.seq, r.id, pg_catalog.split_part(r.stream, '/', 1),
      pg_catalog.split_part(r.stream, '/', 2), r.metric_type, r.kind, r.occurred_at, r.payload,
      pg_catalog.now())::public.cf_events
    from pg_catalog.jsonb_to_recordset(p_events) as r(stream text, epoch bigint, seq bigint, id uuid, kind text,
      occurred_at timestamptz, payload jsonb, metric_type text));

  -- Whoever takes a lease from here on waits for the end of this transaction, and then sees its heads.
  with batch as (
    select stream, min(epoch) as oldest, max(epoch) as newest from pg_catalog.unnest(v_batch) group by stream
  ), held as (
    select l.stream, l.epoch from public.cf_leases l join batch b using (stream)
    where l.owner = p_owner order by l.stream for update of l
  )
  select pg_catalog.jsonb_object_agg(b.stream, case when held.epoch >= b.newest then head.epoch end)
    filter (where held.epoch is null or held.epoch < b.newest or b.oldest < head.epoch)
  into v_refused
  from batch b left join held using (stream) left join public.cf_stream_heads head using (stream);
  if v_refused is not null then
    raise exception 'owner % may not write %', p_owner,
        (select pg_catalog.string_agg(coalesce('epochs before ' || value || ' of ', '') || key, ', ' order by key)
         from pg_catalog.jsonb_each_text(v_refused))
      using errcode = 'CF002', detail = v_refused::text,
        hint = 'Another owner took the lease meanwhile; its epoch has sealed the ones before.';
  end if;
  update public.cf_leases set ttl_seconds = p_ttl_seconds, released = false,
    expires_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_ttl_seconds)
  where stream in (select stream from pg_catalog.unnest(v_batch));

  -- The days that history keeps, and of which this batch has samples: after an outage, days of which none was here yet.
  -- The limits are those of cf_maintain, which drops what is older and makes what is ahead.
  v_days := array(
    select distinct (occurred_at at time zone 'UTC')::date from pg_catalog.unnest(v_batch)
    where kind in ('metric_collected', 'containers_collected')
      and (occurred_at at time zone 'UTC')::date between v_today - 14 and v_today + 3);
  if exists (
    select from pg_catalog.unnest(v_days) as day
    where pg_catalog.to_regclass('public.cf_samples_' || pg_catalog.to_char(day, 'YYYYMMDD')) is null
  ) then
    perform public.cf_make_partitions(v_days);
  end if;

  with batch as materialized (
    select * from pg_catalog.unnest(v_batch)
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
  )
  select count(*) into v_accepted from feed;

  -- What is made of an event for those who write SQL never rejects it: what cannot be made of it, one by one, is left out.
  begin
    perform public.cf_project_devices(v_batch), public.cf_project_containers(v_batch),
      public.cf_record_samples(v_batch, v_days);
  exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    foreach v_event in array v_batch loop
      begin
        perform public.cf_project_devices(array[v_event]), public.cf_project_containers(array[v_event]);
      exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
        null;
      end;
      begin
        perform public.cf_record_samples(array[v_event], v_days);
      exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
        null;
      end;
    end loop;
  end;
  return v_accepted;
end $$;
comment on function public.cf_append(uuid, jsonb, int) is
  'Write a batch of events (wire form, plus metric_type) with heads, latest state and history in one transaction.
Returns how many were new; what is there already is left alone. Raises CF002 with a DETAIL of {stream: epoch | null}:
null, the owner has not that lease; a number, only events of epochs from that one on are still taken.';

revoke execute on function public.cf_lease_ends(public.cf_leases), public.cf_acquire_leases(uuid, jsonb, int),
  public.cf_release_leases(uuid, text[]), public.cf_project_devices(public.cf_events[]),
  public.cf_project_containers(public.cf_events[]),
  public.cf_record_samples(public.cf_events[], date[])
  from public, anon, authenticated;
grant execute on function public.cf_lease_ends(public.cf_leases), public.cf_acquire_leases(uuid, jsonb, int),
  public.cf_release_leases(uuid, text[]), public.cf_project_devices(public.cf_events[]),
  public.cf_project_containers(public.cf_events[]),
  public.cf_record_samples(public.cf_events[], date[])
  to service_role;
