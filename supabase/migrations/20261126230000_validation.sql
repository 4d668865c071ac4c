-- Comparisons of both paths as rows: one a run, and one for each finding that is shown.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

create table public.cf_validation_runs (
  name text primary key check (length(name) <= 100),
  verdict text not null check (verdict in ('PASS', 'FAIL', 'INCONCLUSIVE', 'NO_DATA', 'ERROR')),
  reasons text[] not null,
  started_at timestamptz not null,
  ended_at timestamptz not null,
  published bigint not null,
  decided bigint not null,
  coverage double precision not null,
  counts jsonb not null,
  report jsonb not null,
  recorded_at timestamptz not null default now()
);
comment on table public.cf_validation_runs is
  'One row a comparison of both paths, with its whole report (docs/schemas/validation-report.json) but for the findings.';
create index cf_validation_runs_started_at on public.cf_validation_runs (started_at desc);

create table public.cf_validation_findings (
  run text not null references public.cf_validation_runs on delete cascade,
  class text not null,
  stream text not null,
  epoch bigint not null,
  seq bigint not null,
  details text[] not null,
  primary key (run, class, stream, epoch, seq)
);
comment on table public.cf_validation_findings is 'The findings of a run that its report shows: at most ten a class.';

alter table public.cf_validation_runs enable row level security;
alter table public.cf_validation_findings enable row level security;
create policy cf_validation_runs_read on public.cf_validation_runs for select to authenticated
  using ((select public.cf_is_reader()));
create policy cf_validation_findings_read on public.cf_validation_findings for select to authenticated
  using ((select public.cf_role()) in ('operator', 'admin'));
comment on policy cf_validation_findings_read on public.cf_validation_findings is
  'Findings may hold values of events of any device: for those who operate, not for every viewer.';

create function public.cf_record_validation(p_name text, p_report jsonb) returns void
language plpgsql security invoker set search_path = '' as $$
begin
  insert into public.cf_validation_runs
    (name, verdict, reasons, started_at, ended_at, published, decided, coverage, counts, report)
  values (
    p_name, p_report ->> 'verdict',
    array(select pg_catalog.jsonb_array_elements_text(p_report -> 'reasons')),
    (p_report ->> 'started_at')::timestamptz, (p_report ->> 'ended_at')::timestamptz,
    (p_report ->> 'published')::bigint, (p_report ->> 'decided')::bigint,
    (p_report ->> 'coverage')::double precision, p_report -> 'counts', p_report - 'samples'
  ) on conflict (name) do nothing;
  insert into public.cf_validation_findings (run, class, stream, epoch, seq, details)
  select p_name, found.key, sample ->> 'stream', (sample ->> 'epoch')::bigint, (sample ->> 'seq')::bigint,
    array(select pg_catalog.jsonb_array_elements_text(sample -> 'details'))
  from pg_catalog.jsonb_each(p_report -> 'samples') found, pg_catalog.jsonb_array_elements(found.value) sample
  on conflict do nothing;
  -- The newest thousand stay.
  delete from public.cf_validation_runs where name in (
    select name from public.cf_validation_runs order by started_at desc, name offset 1000);
end
$$;
comment on function public.cf_record_validation(text, jsonb) is
  'Keep the report of a comparison; a run that is there already is left as it is.';

revoke all on public.cf_validation_runs, public.cf_validation_findings from anon, authenticated;
grant select on public.cf_validation_runs, public.cf_validation_findings to authenticated;
grant select, insert, update, delete on public.cf_validation_runs, public.cf_validation_findings to service_role;
revoke execute on function public.cf_record_validation(text, jsonb) from public, anon, authenticated;
grant execute on function public.cf_record_validation(text, jsonb) to service_role;
