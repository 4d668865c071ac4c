-- A list that names a container twice is taken, not refused for ever.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create or replace function public.cf_project_containers(p_batch public.cf_events[]) returns void
language sql set search_path = '' as $$
  -- The newest list of each device is the truth: rows it no longer names are gone.
  with newest as (
    select distinct on (device) device, occurred_at, payload -> 'containers' as containers
    from pg_catalog.unnest(p_batch)
    where kind = 'containers_collected' and (payload ->> 'available')::boolean
    order by device, epoch desc, seq desc
  ), listed as (
    -- One that is listed twice under one id counts once: a machine that errs must not hold up all the others.
    select distinct on (n.device, c ->> 'id') n.device, n.occurred_at, c
    from newest n, pg_catalog.jsonb_array_elements(n.containers) as c order by n.device, c ->> 'id'
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
