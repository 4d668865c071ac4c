-- Projects, which group devices and applications; and the feed by time.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create function public.cf_is_operator() returns boolean
language sql stable set search_path = '' as $$
  select coalesce(public.cf_role() in ('operator', 'admin'), false)
$$;
comment on function public.cf_is_operator() is 'Whether the caller may change what people keep in Crossfade: operator or admin.';

create function public.cf_caller() returns text
language sql stable set search_path = '' as $$
  -- Not user_metadata, which users can write themselves.
  select pg_catalog.left(coalesce(nullif(auth.jwt() -> 'app_metadata' ->> 'crossfade_name', ''),
    nullif(auth.jwt() ->> 'email', ''), nullif(auth.jwt() ->> 'sub', ''), auth.jwt() ->> 'role', current_user::text), 200)
$$;
comment on function public.cf_caller() is 'Who calls, for records: the name or address that the project gave, else the subject.';

-- Projects -----------------------------------------------------------------------------------------------------------

create table public.cf_projects (
  id uuid primary key default gen_random_uuid(),
  name text not null check (name = btrim(name) and length(name) between 1 and 100),
  description text not null default '' check (length(description) <= 1000),
  created_at timestamptz not null default now(),
  created_by text not null default '',
  updated_at timestamptz not null default now(),
  archived_at timestamptz
);
comment on table public.cf_projects is
  'A project groups devices and applications. It is archived, never deleted; then its name is free for another.';
create unique index cf_projects_name on public.cf_projects (lower(name)) where archived_at is null;

create table public.cf_project_members (
  project uuid not null references public.cf_projects (id) on delete cascade,
  device text not null check (device ~ '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$'),
  added_at timestamptz not null default now(),
  added_by text not null default '',
  primary key (project, device)
);
comment on table public.cf_project_members is
  'What belongs to a project: a device or an application, by the name before the slash of its streams.';
create index cf_project_members_device on public.cf_project_members (device);

create function public.cf_projects_touch() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := pg_catalog.now();
  if tg_op = 'INSERT' then
    new.created_at := pg_catalog.now();
    new.created_by := public.cf_caller();
  end if;
  return new;
end $$;
create trigger cf_projects_touch before insert or update on public.cf_projects
for each row execute function public.cf_projects_touch();

create function public.cf_project_members_touch() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.added_at := pg_catalog.now();
  new.added_by := public.cf_caller();
  return new;
end $$;
create trigger cf_project_members_touch before insert on public.cf_project_members
for each row execute function public.cf_project_members_touch();

create function public.cf_project_json(p_project uuid) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.to_jsonb(p) || pg_catalog.jsonb_build_object('members', array(
    select m.device from public.cf_project_members m where m.project = p.id order by m.device limit 1000))
  from public.cf_projects p where p.id = p_project
$$;
comment on function public.cf_project_json(uuid) is 'A project with its first 1,000 members.';

alter table public.cf_projects enable row level security;
alter table public.cf_project_members enable row level security;
revoke all on public.cf_projects, public.cf_project_members from anon, authenticated;
grant select, insert, update, delete on public.cf_projects, public.cf_project_members to service_role;
grant select, insert (name, description), update (name, description, archived_at) on public.cf_projects to authenticated;
grant select, insert (project, device), delete on public.cf_project_members to authenticated;
create policy cf_readers on public.cf_projects for select to authenticated using ((select public.cf_is_reader()));
create policy cf_operators_make on public.cf_projects for insert to authenticated
  with check ((select public.cf_is_operator()));
create policy cf_operators_change on public.cf_projects for update to authenticated
  using ((select public.cf_is_operator())) with check ((select public.cf_is_operator()));
create policy cf_readers on public.cf_project_members for select to authenticated using ((select public.cf_is_reader()));
create policy cf_operators_add on public.cf_project_members for insert to authenticated
  with check ((select public.cf_is_operator()));
create policy cf_operators_remove on public.cf_project_members for delete to authenticated
  using ((select public.cf_is_operator()));

-- The feed by time -----------------------------------------------------------------------------------------------------

create index cf_events_occurred_at on public.cf_events (occurred_at, stream, epoch, seq);

create function public.cf_find_events(
  p_topics text[] default array['global'], p_from timestamptz default '-infinity', p_to timestamptz default 'infinity',
  p_kinds text[] default null, p_device text default null, p_project uuid default null, p_before jsonb default null,
  p_limit int default 100
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  c_looked_at constant int := 20000;  -- rows of the feed that one page looks at; few streams are read whole
  c_few constant int := 50;
  v_narrow boolean := not ('global' = any (p_topics)) or p_kinds is not null or p_device is not null or p_project is not null;
  v_streams text[];
  v_at timestamptz := p_before ->> 0;
  v_stream text := p_before ->> 1;
  v_epoch bigint := (p_before ->> 2)::bigint;
  v_seq bigint := (p_before ->> 3)::bigint;
  v_looked int;
  v_last jsonb;
  v_found jsonb;
  v_count int;
begin
  if p_limit not between 1 and 1000 then
    raise exception 'no such page' using errcode = '22023', hint = 'p_limit is from 1 to 1000.';
  end if;
  if v_narrow then
    v_streams := array(
      select distinct l.stream from public.cf_stream_latest l
      where public.cf_selects(p_topics, l.device, l.category, l.metric_type)
        and (p_kinds is null or l.kind = any (p_kinds)) and (p_device is null or l.device = p_device)
        and (p_project is null or l.device in (select m.device from public.cf_project_members m where m.project = p_project)));
    if v_streams = '{}' then
      return '{"events": [], "next": null}';
    end if;
  end if;
  if v_narrow and pg_catalog.cardinality(v_streams) <= c_few then
    with page as (
      select * from public.cf_events e
      where e.stream = any (v_streams) and e.occurred_at >= p_from and e.occurred_at < p_to
        and (p_kinds is null or e.kind = any (p_kinds))
        and (v_at is null or (e.occurred_at, e.stream, e.epoch, e.seq) < (v_at, v_stream, v_epoch, v_seq))
      order by e.occurred_at desc, e.stream desc, e.epoch desc, e.seq desc limit p_limit
    )
    select coalesce(pg_catalog.jsonb_agg(public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload)
        order by occurred_at desc, stream desc, epoch desc, seq desc), '[]'),
      count(*), pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(occurred_at, stream, epoch, seq)
        order by occurred_at, stream, epoch, seq) -> 0
    into v_found, v_count, v_last from page;
    return pg_catalog.jsonb_build_object('events', v_found, 'next', case when v_count = p_limit then v_last end);
  end if;
  -- Of many streams a page looks at so many rows at most: one that is not full may have a next one.
  with looked as materialized (
    select e.occurred_at, e.stream, e.epoch, e.seq from public.cf_events e
    where e.occurred_at >= p_from and e.occurred_at < p_to
      and (e.occurred_at, e.stream, e.epoch, e.seq)
        < (coalesce(v_at, 'infinity'), coalesce(v_stream, ''), coalesce(v_epoch, 0), coalesce(v_seq, 0))
    order by e.occurred_at desc, e.stream desc, e.epoch desc, e.seq desc
    limit case when v_narrow then c_looked_at else p_limit end
  ), page as (
    select e.* from looked l cross join lateral (
      select * from public.cf_events e where e.stream = l.stream and e.epoch = l.epoch and e.seq = l.seq offset 0) as e
    where (not v_narrow or l.stream = any (v_streams)) and (p_kinds is null or e.kind = any (p_kinds))
    order by e.occurred_at desc, e.stream desc, e.epoch desc, e.seq desc limit p_limit
  )
  select coalesce((select pg_catalog.jsonb_agg(public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload)
      order by occurred_at desc, stream desc, epoch desc, seq desc) from page), '[]'),
    (select count(*) from page), (select count(*) from looked),
    case when (select count(*) from page) = p_limit
      then (select pg_catalog.jsonb_build_array(occurred_at, stream, epoch, seq) from page
        order by occurred_at, stream, epoch, seq limit 1)
      else (select pg_catalog.jsonb_build_array(occurred_at, stream, epoch, seq) from looked
        order by occurred_at, stream, epoch, seq limit 1) end
  into v_found, v_count, v_looked, v_last;
  return pg_catalog.jsonb_build_object('events', v_found, 'next', case
    when v_count = p_limit or (v_narrow and v_looked = c_looked_at) then v_last end);
end $$;
comment on function public.cf_find_events(text[], timestamptz, timestamptz, text[], text, uuid, jsonb, int) is
  'Retained events, the newest first: {events, next}. next is what p_before asks for the page after it with, null at the
end. A page looks at a bounded part of the feed, so that one of few matches may be short, or empty, and still have a next.';

-- The whole on one page --------------------------------------------------------------------------------------------------

create function public.cf_overview() returns jsonb
language sql stable set search_path = '' as $$
  with devices as (
    select d.device, d.status, d.cpu_usage, d.memory_usage, d.sampled_at from public.cf_devices_latest d
  ), counted as (
    select (select pg_catalog.jsonb_object_agg(status, n) from (
        select status, count(*) as n from devices group by status) as s) as devices,
      (select pg_catalog.jsonb_object_agg(status, n) from (
        select status, count(*) as n from public.cf_containers_latest group by status) as s) as containers,
      (select pg_catalog.jsonb_object_agg(severity, n) from (
        select severity, count(*) as n from public.cf_alerts where state <> 'ok' and firing group by severity) as s) as alerts
  )
  select pg_catalog.jsonb_build_object(
    'devices', pg_catalog.jsonb_build_object('total', (select count(*) from devices),
      'by_status', coalesce(devices, '{}'),
      'cpu_usage_mean', (select avg(cpu_usage) from devices where sampled_at > pg_catalog.now() - interval '15 minutes'),
      'memory_usage_mean', (select avg(memory_usage) from devices where sampled_at > pg_catalog.now() - interval '15 minutes'),
      'busiest', coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
          'device', device, 'cpu_usage', cpu_usage, 'memory_usage', memory_usage) order by cpu_usage desc, device)
        from (select * from devices where cpu_usage is not null and sampled_at > pg_catalog.now() - interval '15 minutes'
          order by cpu_usage desc, device limit 5) as b), '[]')),
    'containers', pg_catalog.jsonb_build_object('total', (select count(*) from public.cf_containers_latest),
      'running', (select count(*) from public.cf_containers_latest where running),
      'unhealthy', (select count(*) from public.cf_containers_latest where health = 'unhealthy'),
      'by_status', coalesce(containers, '{}')),
    'sessions', (select count(*) from public.cf_sessions_latest),
    'requests', (select pg_catalog.jsonb_build_object('total', coalesce(sum(requests), 0), 'errors', coalesce(sum(errors), 0),
        'per_second', coalesce(sum(per_second) filter (where sampled_at > pg_catalog.now() - interval '5 minutes'), 0))
      from public.cf_requests_latest),
    'alerts', pg_catalog.jsonb_build_object(
      'firing', (select count(*) from public.cf_alerts where state <> 'ok' and firing),
      'by_severity', coalesce(alerts, '{}'),
      'newest', coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', id, 'rule', rule, 'device', device,
          'item', item, 'severity', severity, 'since', since, 'summary', summary) order by changed_at desc, id)
        from (select * from public.cf_alerts where state <> 'ok' and firing order by changed_at desc, id limit 10) as a), '[]')),
    'polling', (select pg_catalog.jsonb_build_object('registered', count(*),
        'enabled', count(*) filter (where r.monitoring_enabled),
        'heard_of', count(*) filter (where r.monitoring_enabled and d.sampled_at > pg_catalog.now() - interval '15 minutes'))
      from (select device, monitoring_enabled from public.cf_devices) as r left join devices d using (device)),
    'streams', pg_catalog.jsonb_build_object('total', (select count(*) from public.cf_stream_heads),
      'moved_in_a_minute', (select count(*) from public.cf_stream_heads where updated_at > pg_catalog.now() - interval '1 minute')),
    'delivery', (select pg_catalog.jsonb_build_object('mode', mode, 'beat', beat, 'beat_at', beat_at) from public.cf_delivery),
    'storage', (select pg_catalog.jsonb_build_object('used_bytes', used_bytes, 'limit_bytes', limit_bytes, 'trims', trims,
        'hours_to_roll_up', (select count(*) from public.cf_rollup_pending where hour < pg_catalog.now() - interval '2 hours'))
      from public.cf_storage))
  from counted
$$;
comment on function public.cf_overview() is
  'What a first page shows: devices, containers, sessions, requests, alerts, polling, streams, delivery, storage; counted now.';

revoke execute on function public.cf_projects_touch(), public.cf_project_members_touch() from public, anon, authenticated;
