/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The layout of every structure of bpf/events.h: each member starts where the
 * one before it ends, and the structure ends with its last member. So there is
 * no padding that a compiler could choose, and what the programs send has no
 * byte that nobody wrote. Compiled natively and for BPF (see unit.mk).
 */
#ifndef PFNW_UNIT_ABI_H
#define PFNW_UNIT_ABI_H

#include "events.h"

#define END(s, m) (__builtin_offsetof(struct s, m) + sizeof(((struct s *)0)->m))
#define FIRST(s, m) _Static_assert(__builtin_offsetof(struct s, m) == 0, #s "." #m)
#define NEXT(s, m, n) \
	_Static_assert(__builtin_offsetof(struct s, n) == END(s, m), #s "." #n " follows " #m)
#define LAST(s, m) _Static_assert(sizeof(struct s) == END(s, m), #s " ends with " #m)

FIRST(pfnw_walk, va);
NEXT(pfnw_walk, va, entry);
NEXT(pfnw_walk, entry, top);
NEXT(pfnw_walk, top, leaf);
NEXT(pfnw_walk, leaf, status);
NEXT(pfnw_walk, status, pad);
LAST(pfnw_walk, pad);

FIRST(pfnw_iowalk, iova);
NEXT(pfnw_iowalk, iova, entry);
NEXT(pfnw_iowalk, entry, top);
NEXT(pfnw_iowalk, top, leaf);
NEXT(pfnw_iowalk, leaf, status);
NEXT(pfnw_iowalk, status, kind);
NEXT(pfnw_iowalk, kind, pad);
LAST(pfnw_iowalk, pad);

FIRST(pfnw_leaf, entry);
NEXT(pfnw_leaf, entry, level);
NEXT(pfnw_leaf, level, locked);
NEXT(pfnw_leaf, locked, claimed);
NEXT(pfnw_leaf, claimed, pad);
LAST(pfnw_leaf, pad);

FIRST(pfnw_vma, start);
NEXT(pfnw_vma, start, end);
NEXT(pfnw_vma, end, flags);
NEXT(pfnw_vma, flags, pgoff);
NEXT(pfnw_vma, pgoff, valid);
NEXT(pfnw_vma, valid, pad);
LAST(pfnw_vma, pad);

FIRST(pfnw_hdr, type);
NEXT(pfnw_hdr, type, abi);
NEXT(pfnw_hdr, abi, tgid);
NEXT(pfnw_hdr, tgid, tid);
NEXT(pfnw_hdr, tid, group);
NEXT(pfnw_hdr, group, ts_ns);
NEXT(pfnw_hdr, ts_ns, mm);
NEXT(pfnw_hdr, mm, domain);
NEXT(pfnw_hdr, domain, comm);
LAST(pfnw_hdr, comm);

FIRST(pfnw_ev_run, h);
NEXT(pfnw_ev_run, h, iova);
NEXT(pfnw_ev_run, iova, va);
NEXT(pfnw_ev_run, va, n_pages);
NEXT(pfnw_ev_run, n_pages, n_maps);
NEXT(pfnw_ev_run, n_maps, prot);
NEXT(pfnw_ev_run, prot, pad);
LAST(pfnw_ev_run, pad);

FIRST(pfnw_ev_diff, h);
NEXT(pfnw_ev_diff, h, iova);
NEXT(pfnw_ev_diff, iova, va);
NEXT(pfnw_ev_diff, va, pfn);
NEXT(pfnw_ev_diff, pfn, claim_pfn);
NEXT(pfnw_ev_diff, claim_pfn, claim_va);
NEXT(pfnw_ev_diff, claim_va, map_iova);
NEXT(pfnw_ev_diff, map_iova, map_pa);
NEXT(pfnw_ev_diff, map_pa, map_bytes);
NEXT(pfnw_ev_diff, map_bytes, dma_iova);
NEXT(pfnw_ev_diff, dma_iova, dma_va);
NEXT(pfnw_ev_diff, dma_va, change_seq);
NEXT(pfnw_ev_diff, change_seq, change_fin);
NEXT(pfnw_ev_diff, change_fin, prot);
NEXT(pfnw_ev_diff, prot, dma_prot);
NEXT(pfnw_ev_diff, dma_prot, at);
NEXT(pfnw_ev_diff, at, rules);
NEXT(pfnw_ev_diff, rules, moved);
NEXT(pfnw_ev_diff, moved, pfnmap);
NEXT(pfnw_ev_diff, pfnmap, n_stack);
NEXT(pfnw_ev_diff, n_stack, snap);
NEXT(pfnw_ev_diff, snap, walk);
NEXT(pfnw_ev_diff, walk, io);
NEXT(pfnw_ev_diff, io, vma);
NEXT(pfnw_ev_diff, vma, stack);
LAST(pfnw_ev_diff, stack);

FIRST(pfnw_ev_claim, h);
NEXT(pfnw_ev_claim, h, va);
NEXT(pfnw_ev_claim, va, pfn);
NEXT(pfnw_ev_claim, pfn, latency_ns);
NEXT(pfnw_ev_claim, latency_ns, ret);
NEXT(pfnw_ev_claim, ret, asked_pages);
NEXT(pfnw_ev_claim, asked_pages, match_pages);
NEXT(pfnw_ev_claim, match_pages, diff_pages);
NEXT(pfnw_ev_claim, diff_pages, unverified_pages);
NEXT(pfnw_ev_claim, unverified_pages, prot);
NEXT(pfnw_ev_claim, prot, pfnmap);
NEXT(pfnw_ev_claim, pfnmap, reserved);
NEXT(pfnw_ev_claim, reserved, pad);
NEXT(pfnw_ev_claim, pad, snap);
NEXT(pfnw_ev_claim, snap, walk);
NEXT(pfnw_ev_claim, walk, vma);
LAST(pfnw_ev_claim, vma);

FIRST(pfnw_ev_map, h);
NEXT(pfnw_ev_map, h, iova);
NEXT(pfnw_ev_map, iova, va);
NEXT(pfnw_ev_map, va, pa);
NEXT(pfnw_ev_map, pa, bytes);
NEXT(pfnw_ev_map, bytes, match_pages);
NEXT(pfnw_ev_map, match_pages, diff_pages);
NEXT(pfnw_ev_map, diff_pages, unverified_pages);
NEXT(pfnw_ev_map, unverified_pages, dma_iova);
NEXT(pfnw_ev_map, dma_iova, dma_va);
NEXT(pfnw_ev_map, dma_va, prot);
NEXT(pfnw_ev_map, prot, ret);
NEXT(pfnw_ev_map, ret, internal);
NEXT(pfnw_ev_map, internal, pad);
NEXT(pfnw_ev_map, pad, snap);
NEXT(pfnw_ev_map, snap, walk);
LAST(pfnw_ev_map, walk);

FIRST(pfnw_ev_unmap, h);
NEXT(pfnw_ev_unmap, h, iova);
NEXT(pfnw_ev_unmap, iova, bytes);
NEXT(pfnw_ev_unmap, bytes, unmapped);
LAST(pfnw_ev_unmap, unmapped);

FIRST(pfnw_ev_breach, h);
NEXT(pfnw_ev_breach, h, rule);
NEXT(pfnw_ev_breach, rule, n_stack);
NEXT(pfnw_ev_breach, n_stack, iova);
NEXT(pfnw_ev_breach, iova, bytes);
NEXT(pfnw_ev_breach, bytes, done);
NEXT(pfnw_ev_breach, done, pages);
NEXT(pfnw_ev_breach, pages, dma_iova);
NEXT(pfnw_ev_breach, dma_iova, dma_va);
NEXT(pfnw_ev_breach, dma_va, dma_bytes);
NEXT(pfnw_ev_breach, dma_bytes, io);
NEXT(pfnw_ev_breach, io, stack);
LAST(pfnw_ev_breach, stack);

FIRST(pfnw_ev_ledger, h);
NEXT(pfnw_ev_ledger, h, container);
NEXT(pfnw_ev_ledger, container, generation);
NEXT(pfnw_ev_ledger, generation, seq);
NEXT(pfnw_ev_ledger, seq, iova);
NEXT(pfnw_ev_ledger, iova, n_pages);
NEXT(pfnw_ev_ledger, n_pages, dma_iova);
NEXT(pfnw_ev_ledger, dma_iova, dma_va);
NEXT(pfnw_ev_ledger, dma_va, op);
NEXT(pfnw_ev_ledger, op, n);
NEXT(pfnw_ev_ledger, n, prot);
NEXT(pfnw_ev_ledger, prot, kind);
NEXT(pfnw_ev_ledger, kind, run);
LAST(pfnw_ev_ledger, run);

FIRST(pfnw_ev_change, h);
NEXT(pfnw_ev_change, h, start);
NEXT(pfnw_ev_change, start, end);
NEXT(pfnw_ev_change, end, seq);
NEXT(pfnw_ev_change, seq, fn);
NEXT(pfnw_ev_change, fn, pad);
NEXT(pfnw_ev_change, pad, n_stack);
NEXT(pfnw_ev_change, n_stack, stack);
LAST(pfnw_ev_change, stack);

FIRST(pfnw_iova_to_phys, vtd);
NEXT(pfnw_iova_to_phys, vtd, amd);
NEXT(pfnw_iova_to_phys, amd, vtd_generic);
NEXT(pfnw_iova_to_phys, vtd_generic, amd_generic);
NEXT(pfnw_iova_to_phys, amd_generic, x86_generic);
NEXT(pfnw_iova_to_phys, x86_generic, virtio);
LAST(pfnw_iova_to_phys, virtio);

FIRST(pfnw_calib, page_offset_base);
NEXT(pfnw_calib, page_offset_base, vmemmap_base);
NEXT(pfnw_calib, vmemmap_base, sme_me_mask);
NEXT(pfnw_calib, sme_me_mask, pgdir_shift);
NEXT(pfnw_calib, pgdir_shift, page_struct_bytes);
NEXT(pfnw_calib, page_struct_bytes, pg_reserved);
NEXT(pfnw_calib, pg_reserved, have);
NEXT(pfnw_calib, have, pad);
NEXT(pfnw_calib, pad, driver_fn);
NEXT(pfnw_calib, driver_fn, huge_zero_pfn);
LAST(pfnw_calib, huge_zero_pfn);

FIRST(pfnw_rewalk, mm);
NEXT(pfnw_rewalk, mm, va);
NEXT(pfnw_rewalk, va, change_seq);
NEXT(pfnw_rewalk, change_seq, change_fin);
NEXT(pfnw_rewalk, change_fin, gone);
NEXT(pfnw_rewalk, gone, moved);
NEXT(pfnw_rewalk, moved, walk);
LAST(pfnw_rewalk, walk);

#endif
