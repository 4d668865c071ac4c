-- Writing a batch of small events costs less: what is newest is found without carrying every payload through a sort, and the
-- hours to roll up without a function call for each row. What is written is the same.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create or replace function public.cf_append_rows(
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
  v_top tid[];
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
  -- A day before today housekeeping may be dropping in this moment: it waits for us, or we for it.
  if exists (
    select from pg_catalog.unnest(v_days) as day
    where day < v_today or pg_catalog.to_regclass('public.cf_samples_' || pg_catalog.to_char(day, 'YYYYMMDD')) is null
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

  -- The newest of each stream and kind, found by what is narrow: payloads of the others are not carried along.
  v_top := array(
    select distinct on (stream collate "C", kind collate "C") ctid
    from public.cf_events where ctid = any (v_new) order by stream collate "C", kind collate "C", epoch desc, seq desc);

  insert into public.cf_stream_heads as h (stream, device, category, metric_type, epoch, seq)
  select distinct on (stream collate "C") stream, device, category, metric_type, epoch, seq
  from public.cf_events where ctid = any (v_top) order by stream collate "C", epoch desc, seq desc
  on conflict (stream) do update set epoch = excluded.epoch, seq = excluded.seq, updated_at = pg_catalog.now()
  where (excluded.epoch, excluded.seq) > (h.epoch, h.seq);

  insert into public.cf_stream_latest as l
    (stream, kind, device, category, metric_type, epoch, seq, id, occurred_at, payload)
  select stream, kind, device, category, metric_type, epoch, seq, id, occurred_at, payload
  from public.cf_events where ctid = any (v_top) order by stream collate "C", kind collate "C"
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
    -- As cf_bin('1 hour', ...), which costs a call for each row.
    select distinct stream, pg_catalog.date_bin('1 hour', occurred_at, '2000-01-03 00:00:00+00') from public.cf_events
    where ctid = any (v_new) and kind = any (c_sampled) and occurred_at >= v_oldest and occurred_at < v_newest
    order by 1, 2
    on conflict (stream, hour) do update set claimed = false, problem = null where p.claimed or p.problem is not null;
  end if;

  -- What is made of an event for those who write SQL never rejects it: what cannot be made of it, one by one, is left out.
  v_top := array(
    select distinct on (e.stream collate "C", e.kind collate "C", told) e.ctid
    from public.cf_events e
    cross join lateral (select case e.kind
      when 'containers_collected' then e.payload @> '{"available": true}'
      when 'device_status_changed' then e.payload ? 'new_status' end as told) as t
    where e.ctid = any (v_new) and e.kind in ('metric_collected', 'device_status_changed', 'containers_collected')
    order by e.stream collate "C", e.kind collate "C", told, e.epoch desc, e.seq desc);
  v_batch := array(select e from public.cf_events e where e.ctid = any (v_top));
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
