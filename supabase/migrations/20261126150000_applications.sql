-- What applications push about themselves: their sessions, connections, semaphores and HTTP requests, as latest rows.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged. The rows are written in the events' transaction, by a trigger
-- that sees only events that are new: an event that is sent again is not counted again.

create table public.cf_sessions_latest (
  device text not null,
  session_id text not null,
  attributes jsonb not null default '{}',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  recorded_at timestamptz not null default now(),
  epoch bigint not null,
  seq bigint not null,
  primary key (device, session_id)
);
comment on table public.cf_sessions_latest is
  'One row an active session; it goes with the session. An application has at most 10,000 here, the newest, and of those none
that was not heard of for a day: one that dies cannot end its sessions.';
create index cf_sessions_latest_position on public.cf_sessions_latest (device, epoch, seq);

create table public.cf_connections_latest (
  device text not null,
  connection_type text not null,
  events bigint not null,
  errors bigint not null,
  data_bytes numeric not null,
  responses bigint not null,
  response_ms_total double precision not null,
  response_ms_max double precision,
  last_error text,
  last_event_at timestamptz not null,
  epoch bigint not null,
  seq bigint not null,
  primary key (device, connection_type)
);
comment on table public.cf_connections_latest is
  'One row an application and type of connection (websocket, redis, ...), counted since its first event; at most the 200
types that were heard of last. response_ms_total / responses is the mean.';

create table public.cf_semaphores_latest (
  device text not null,
  name text not null,
  capacity bigint,
  in_use bigint,
  waiting bigint,
  sampled_at timestamptz not null,
  epoch bigint not null,
  seq bigint not null,
  primary key (device, name)
);
comment on table public.cf_semaphores_latest is 'The newest gauge of each semaphore; at most 1,000 an application.';
create index cf_semaphores_latest_position on public.cf_semaphores_latest (device, epoch, seq);

create table public.cf_requests_latest (
  device text primary key,
  requests bigint not null,
  errors bigint not null,
  duration_ms_total double precision not null,
  per_second double precision,
  routes jsonb not null default '[]',
  sampled_at timestamptz not null,
  epoch bigint not null,
  seq bigint not null
);
comment on table public.cf_requests_latest is
  'One row an application: HTTP requests since its first event, and the newest interval: its rate, and its routes.';

-- Payloads are the applications' own: what is no number, or no sensible one, is none -----------------------------------

create function public.cf_count(p_value jsonb) returns bigint
language sql immutable set search_path = '' as $$
  select case when pg_catalog.jsonb_typeof(p_value) = 'number' then
    case when p_value::numeric between 0 and 1e12 then pg_catalog.trunc(p_value::numeric)::bigint end end
$$;
comment on function public.cf_count(jsonb) is 'A JSON number as a count from 0 to 10^12; null for anything else.';

create function public.cf_name(p_value jsonb) returns text
language sql immutable set search_path = '' as $$
  select case when pg_catalog.jsonb_typeof(p_value) = 'string' and pg_catalog.length(p_value #>> '{}') <= 200
    then p_value #>> '{}' end
$$;
comment on function public.cf_name(jsonb) is 'A JSON string of at most 200 characters; null for anything else.';

create function public.cf_measure(p_value jsonb) returns double precision
language sql immutable set search_path = '' as $$
  select case when pg_catalog.jsonb_typeof(p_value) = 'number' then
    case when p_value::numeric between 0 and 1e12 then pg_catalog.round(p_value::numeric, 6)::double precision end end
$$;
comment on function public.cf_measure(jsonb) is 'A JSON number from 0 to 10^12, to six places; null for anything else.';

-- Projections ----------------------------------------------------------------------------------------------------------

create function public.cf_project_sessions(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  with changes as (
    select * from pg_catalog.unnest(p_batch)
    where category = 'sessions' and kind in ('session_created', 'session_updated', 'session_destroyed')
      and public.cf_name(payload -> 'session_id') is not null
  ), newest as (
    -- Each event says all that is known of its session, so the newest one alone is its state.
    select distinct on (device, payload ->> 'session_id') device, payload ->> 'session_id' as session_id, kind,
      occurred_at, epoch, seq, payload,
      min(occurred_at) filter (where kind = 'session_created') over (partition by device, payload ->> 'session_id')
        as created_at
    from changes order by device, payload ->> 'session_id', epoch desc, seq desc
  ), ended as (
    delete from public.cf_sessions_latest l using newest n
    where n.kind = 'session_destroyed' and l.device = n.device and l.session_id = n.session_id
      and (n.epoch, n.seq) > (l.epoch, l.seq)
  )
  insert into public.cf_sessions_latest as l
    (device, session_id, attributes, created_at, updated_at, epoch, seq)
  select device, session_id,
    case when pg_catalog.jsonb_typeof(payload -> 'attributes') = 'object' then payload -> 'attributes' else '{}' end,
    coalesce(created_at, occurred_at), occurred_at, epoch, seq
  from newest where kind <> 'session_destroyed'
  on conflict (device, session_id) do update set attributes = excluded.attributes, updated_at = excluded.updated_at,
    recorded_at = excluded.recorded_at, epoch = excluded.epoch, seq = excluded.seq
  where (excluded.epoch, excluded.seq) > (l.epoch, l.seq);

  delete from public.cf_sessions_latest l
  using (select distinct device from pg_catalog.unnest(p_batch) where category = 'sessions') as b
  where l.device = b.device and l.recorded_at < pg_catalog.now() - interval '1 day';

  delete from public.cf_sessions_latest l
  using (select distinct device from pg_catalog.unnest(p_batch) where category = 'sessions') as b
  cross join lateral (
    select o.epoch, o.seq from public.cf_sessions_latest o where o.device = b.device
    order by o.epoch desc, o.seq desc offset 10000 limit 1) as oldest
  where l.device = b.device and (l.epoch, l.seq) <= (oldest.epoch, oldest.seq)
$$;

create function public.cf_project_connections(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  with told as (
    select b.device, b.payload ->> 'connection_type' as connection_type, b.payload, b.occurred_at, b.epoch, b.seq,
      case when pg_catalog.jsonb_typeof(b.payload -> 'error') = 'string' then b.payload ->> 'error' end as error,
      public.cf_measure(b.payload -> 'response_time_ms') as response_ms
    from pg_catalog.unnest(p_batch) as b
    left join public.cf_connections_latest l on l.device = b.device and l.connection_type = b.payload ->> 'connection_type'
    where b.category = 'connections' and b.kind = 'connection_event'
      and public.cf_name(b.payload -> 'connection_type') is not null
      and (l.device is null or (b.epoch, b.seq) > (l.epoch, l.seq))
  ), summed as (
    select device, connection_type, count(*) as events, count(error) as errors,
      coalesce(sum(public.cf_count(payload -> 'data_size_bytes')), 0) as data_bytes,
      count(response_ms) as responses, coalesce(sum(response_ms), 0) as response_ms_total, max(response_ms) as response_ms_max,
      (pg_catalog.array_agg(error order by epoch desc, seq desc) filter (where error is not null))[1] as last_error,
      max(occurred_at) as last_event_at, max(array[epoch, seq]) as place
    from told group by device, connection_type
  )
  insert into public.cf_connections_latest as l (device, connection_type, events, errors, data_bytes, responses,
    response_ms_total, response_ms_max, last_error, last_event_at, epoch, seq)
  select device, connection_type, events, errors, data_bytes, responses, response_ms_total, response_ms_max, last_error,
    last_event_at, place[1], place[2]
  from summed
  on conflict (device, connection_type) do update set events = l.events + excluded.events,
    errors = l.errors + excluded.errors, data_bytes = l.data_bytes + excluded.data_bytes,
    responses = l.responses + excluded.responses, response_ms_total = l.response_ms_total + excluded.response_ms_total,
    response_ms_max = greatest(l.response_ms_max, excluded.response_ms_max),
    last_error = coalesce(excluded.last_error, l.last_error),
    last_event_at = greatest(l.last_event_at, excluded.last_event_at), epoch = excluded.epoch, seq = excluded.seq;

  delete from public.cf_connections_latest l
  using (select distinct device from pg_catalog.unnest(p_batch) where category = 'connections') as b
  cross join lateral (
    select o.epoch, o.seq from public.cf_connections_latest o where o.device = b.device
    order by o.epoch desc, o.seq desc offset 200 limit 1) as oldest
  where l.device = b.device and (l.epoch, l.seq) <= (oldest.epoch, oldest.seq)
$$;

create function public.cf_project_semaphores(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  insert into public.cf_semaphores_latest as l (device, name, capacity, in_use, waiting, sampled_at, epoch, seq)
  select distinct on (device, payload ->> 'name') device, payload ->> 'name', public.cf_count(payload -> 'limit'),
    public.cf_count(payload -> 'in_use'), public.cf_count(payload -> 'waiting'), occurred_at, epoch, seq
  from pg_catalog.unnest(p_batch)
  where category = 'semaphores' and kind = 'semaphore_gauge' and public.cf_name(payload -> 'name') is not null
  order by device, payload ->> 'name', epoch desc, seq desc
  on conflict (device, name) do update set capacity = excluded.capacity, in_use = excluded.in_use,
    waiting = excluded.waiting, sampled_at = excluded.sampled_at, epoch = excluded.epoch, seq = excluded.seq
  where (excluded.epoch, excluded.seq) > (l.epoch, l.seq);

  delete from public.cf_semaphores_latest l
  using (select distinct device from pg_catalog.unnest(p_batch) where category = 'semaphores') as b
  cross join lateral (
    select o.epoch, o.seq from public.cf_semaphores_latest o where o.device = b.device
    order by o.epoch desc, o.seq desc offset 1000 limit 1) as oldest
  where l.device = b.device and (l.epoch, l.seq) <= (oldest.epoch, oldest.seq)
$$;

create function public.cf_project_requests(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  with told as (
    select b.device, b.payload, b.occurred_at, b.epoch, b.seq, public.cf_count(b.payload -> 'count') as requests,
      public.cf_measure(b.payload -> 'interval_seconds') as seconds
    from pg_catalog.unnest(p_batch) as b
    left join public.cf_requests_latest l on l.device = b.device
    where b.category = 'requests' and b.kind = 'http_requests'
      and (l.device is null or (b.epoch, b.seq) > (l.epoch, l.seq))
  ), summed as (
    select device, sum(requests) as requests, coalesce(sum(public.cf_count(payload -> 'errors')), 0) as errors,
      coalesce(sum(public.cf_measure(payload -> 'duration_ms_total')), 0) as duration_ms_total
    from told where requests is not null group by device
  ), newest as (
    select distinct on (device) * from told where requests is not null order by device, epoch desc, seq desc
  )
  insert into public.cf_requests_latest as l
    (device, requests, errors, duration_ms_total, per_second, routes, sampled_at, epoch, seq)
  select device, s.requests, s.errors, s.duration_ms_total, n.requests / nullif(n.seconds, 0),
    case when pg_catalog.jsonb_typeof(n.payload -> 'routes') = 'array' then n.payload -> 'routes' else '[]' end,
    n.occurred_at, n.epoch, n.seq
  from summed s join newest n using (device)
  on conflict (device) do update set requests = l.requests + excluded.requests, errors = l.errors + excluded.errors,
    duration_ms_total = l.duration_ms_total + excluded.duration_ms_total, per_second = excluded.per_second,
    routes = excluded.routes, sampled_at = excluded.sampled_at, epoch = excluded.epoch, seq = excluded.seq
$$;

create function public.cf_project_applications() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_batch public.cf_events[] := array(
    select i from inserted i
    where i.category in ('sessions', 'connections', 'semaphores', 'requests') and i.kind <> 'stream_opened');
begin
  if pg_catalog.cardinality(v_batch) > 0 then
    perform public.cf_project_sessions(v_batch);
    perform public.cf_project_connections(v_batch);
    perform public.cf_project_semaphores(v_batch);
    perform public.cf_project_requests(v_batch);
  end if;
  return null;
end $$;

create trigger cf_project_applications after insert on public.cf_events
referencing new table as inserted for each statement execute function public.cf_project_applications();

-- Rights ---------------------------------------------------------------------------------------------------------------

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cf_sessions_latest', 'cf_connections_latest', 'cf_semaphores_latest',
    'cf_requests_latest']
  loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    execute format('grant select on public.%I to authenticated', v_table);
    execute format(
      'create policy cf_readers on public.%I for select to authenticated using ((select public.cf_is_reader()))',
      v_table);
  end loop;
end $$;

revoke execute on function public.cf_count(jsonb), public.cf_measure(jsonb), public.cf_name(jsonb),
  public.cf_project_sessions(public.cf_events[]), public.cf_project_connections(public.cf_events[]),
  public.cf_project_semaphores(public.cf_events[]), public.cf_project_requests(public.cf_events[]),
  public.cf_project_applications()
  from public, anon, authenticated;
grant execute on function public.cf_count(jsonb), public.cf_measure(jsonb), public.cf_name(jsonb),
  public.cf_project_sessions(public.cf_events[]), public.cf_project_connections(public.cf_events[]),
  public.cf_project_semaphores(public.cf_events[]), public.cf_project_requests(public.cf_events[]),
  public.cf_project_applications()
  to service_role;
