-- Alerts: one row an episode, from its breach to its resolve and after, and the silences people asked for.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged. The rows are written in the events' transaction from the
-- streams crossfade/alerts and crossfade/alert-requests, which Crossfade alone writes, by a trigger that sees only new events.

create table public.cf_alerts (
  id uuid primary key,
  rule text not null,
  device text not null,
  item text not null,
  severity text not null,
  state text not null check (state in ('ok', 'pending', 'firing', 'no_data')),
  firing boolean not null,
  since timestamptz,
  fired_at timestamptz,
  resolved_at timestamptz,
  value jsonb,
  expected text not null,
  summary text not null,
  flapping boolean not null,
  acknowledged_by text,
  acknowledged_at timestamptz,
  inhibited_by text,
  silenced_by text,
  changed_at timestamptz not null,
  epoch bigint not null,
  seq bigint not null
);
comment on table public.cf_alerts is
  'One row an episode of an alert. Resolved ones are kept for 90 days, at most 100,000 of them.';
create index cf_alerts_changed on public.cf_alerts (changed_at desc, id);
create index cf_alerts_open on public.cf_alerts (device, rule) where state <> 'ok';

create table public.cf_alert_silences (
  id uuid primary key,
  rules text[] not null,
  devices text[] not null,
  items text[] not null,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  made_by text not null,
  comment text not null,
  ended_by text
);
comment on table public.cf_alert_silences is 'What people asked not to be told of, and until when. Kept for 90 days after its end.';
create index cf_alert_silences_end on public.cf_alert_silences (ends_at);

create function public.cf_texts(p_value jsonb) returns text[]
language sql immutable set search_path = '' as $$
  select coalesce(
    case when pg_catalog.jsonb_typeof(p_value) = 'array' then (
      select pg_catalog.array_agg(each #>> '{}') from pg_catalog.jsonb_array_elements(p_value) as each
      where pg_catalog.jsonb_typeof(each) = 'string') end,
    '{*}')
$$;
comment on function public.cf_texts(jsonb) is 'The strings of a JSON array; {*} when there are none.';

create function public.cf_project_alerts(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  insert into public.cf_alerts as l (id, rule, device, item, severity, state, firing, since, fired_at, resolved_at, value,
    expected, summary, flapping, acknowledged_by, acknowledged_at, inhibited_by, silenced_by, changed_at, epoch, seq)
  select distinct on (payload ->> 'id') (payload ->> 'id')::uuid, payload ->> 'rule', payload ->> 'device',
    payload ->> 'item', payload ->> 'severity', payload ->> 'state', (payload ->> 'firing')::boolean,
    (payload ->> 'since')::timestamptz, (payload ->> 'fired_at')::timestamptz,
    (payload ->> 'resolved_at')::timestamptz, payload -> 'value', payload ->> 'expected', payload ->> 'summary',
    (payload ->> 'flapping')::boolean, payload ->> 'acknowledged_by', (payload ->> 'acknowledged_at')::timestamptz,
    payload ->> 'inhibited_by', payload ->> 'silenced_by', occurred_at, epoch, seq
  from pg_catalog.unnest(p_batch)
  where stream = 'crossfade/alerts' and kind = 'alert_changed'
  order by payload ->> 'id', epoch desc, seq desc
  on conflict (id) do update set state = excluded.state, firing = excluded.firing, since = excluded.since,
    severity = excluded.severity, fired_at = excluded.fired_at, resolved_at = excluded.resolved_at,
    value = excluded.value, expected = excluded.expected, summary = excluded.summary, flapping = excluded.flapping,
    acknowledged_by = excluded.acknowledged_by, acknowledged_at = excluded.acknowledged_at,
    inhibited_by = excluded.inhibited_by, silenced_by = excluded.silenced_by, changed_at = excluded.changed_at,
    epoch = excluded.epoch, seq = excluded.seq
  where (excluded.epoch, excluded.seq) > (l.epoch, l.seq);

  delete from public.cf_alerts where state = 'ok' and changed_at < pg_catalog.now() - interval '90 days';

  delete from public.cf_alerts l
  using (select changed_at from public.cf_alerts where state = 'ok' order by changed_at desc offset 100000 limit 1) as oldest
  where l.state = 'ok' and l.changed_at <= oldest.changed_at
$$;

create function public.cf_project_alert_requests(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  insert into public.cf_alert_silences (id, rules, devices, items, starts_at, ends_at, made_by, comment)
  select (payload ->> 'id')::uuid, public.cf_texts(payload -> 'rules'), public.cf_texts(payload -> 'devices'),
    public.cf_texts(payload -> 'items'), (payload ->> 'starts_at')::timestamptz, (payload ->> 'ends_at')::timestamptz,
    payload ->> 'by', coalesce(payload ->> 'comment', '')
  from pg_catalog.unnest(p_batch)
  where stream = 'crossfade/alert-requests' and kind = 'alert_silenced'
  on conflict (id) do nothing;

  update public.cf_alert_silences s set ends_at = least(s.ends_at, e.occurred_at), ended_by = e.payload ->> 'by'
  from pg_catalog.unnest(p_batch) as e
  where e.stream = 'crossfade/alert-requests' and e.kind = 'alert_silence_ended'
    and s.id::text = e.payload ->> 'id' and s.ended_by is null;

  delete from public.cf_alert_silences where ends_at < pg_catalog.now() - interval '90 days'
$$;

create function public.cf_project_all_alerts() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_batch public.cf_events[] := array(
    select i from inserted i
    where i.stream in ('crossfade/alerts', 'crossfade/alert-requests') and i.kind like 'alert\_%');
begin
  if pg_catalog.cardinality(v_batch) > 0 then
    perform public.cf_project_alerts(v_batch);
    perform public.cf_project_alert_requests(v_batch);
  end if;
  return null;
end $$;

create trigger cf_project_alerts after insert on public.cf_events
referencing new table as inserted for each statement execute function public.cf_project_all_alerts();

-- Rights ---------------------------------------------------------------------------------------------------------------

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cf_alerts', 'cf_alert_silences']
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

revoke execute on function public.cf_texts(jsonb), public.cf_project_alerts(public.cf_events[]),
  public.cf_project_alert_requests(public.cf_events[]), public.cf_project_all_alerts()
  from public, anon, authenticated;
grant execute on function public.cf_texts(jsonb), public.cf_project_alerts(public.cf_events[]),
  public.cf_project_alert_requests(public.cf_events[]), public.cf_project_all_alerts()
  to service_role;
